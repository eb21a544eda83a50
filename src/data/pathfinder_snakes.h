// Where the snakes of an image lie: drawn one paddle at a time, clear of all that lies there
// already.
#pragma once

#include "data/pathfinder_paddles.h"
#include "data/random.h"
#include "ecoformer/data/pathfinder.h"

namespace ecoformer::data {

/// Draws the target snakes and the distractors of a scene whose margin is that of `shapes`.
void grow_snakes(const PathfinderParameters& parameters, const PaddleShapes& shapes, Engine& engine,
                 PathfinderScene& scene);

}  // namespace ecoformer::data
