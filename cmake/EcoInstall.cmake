# `cmake --install`: lib/cmake/ecoformer beside the libraries and headers that eco_add_library installs.

include(CMakePackageConfigHelpers)
set(_package lib/cmake/ecoformer)

get_property(ECO_INSTALLED_LIBRARIES GLOBAL PROPERTY ECO_INSTALLED_LIBRARIES)
configure_package_config_file(cmake/ecoformerConfig.cmake.in ecoformerConfig.cmake
  INSTALL_DESTINATION ${_package} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(ecoformerConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(EXPORT ecoformerTargets NAMESPACE ecoformer:: DESTINATION ${_package})
install(
  FILES
    "${CMAKE_CURRENT_BINARY_DIR}/ecoformerConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/ecoformerConfigVersion.cmake"
    cmake/FindLibTorch.cmake
  DESTINATION ${_package})
