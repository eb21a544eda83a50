"""Writes the seed corpus of pth_fuzzer: valid files of both layouts, and one hostile file per rule.

The files are committed; this is how to make them again:  python3 fuzz/make_pth_corpus.py
Opcode by opcode and field by field, without torch: so each file breaks one rule and no other.
tests/io/pth_replay_test.cpp says what each hostile file must be refused for.
"""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "corpus" / "pth"
MAGIC = 0x1950A86A20F9469CFC6C


# ---- pickles ----


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(value)) + value


def integer(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def items(*values):
    return b"(" + b"".join(values) + b"t"


def integers(values):
    return items(*map(integer, values))


def sequence(*values):
    return b"](" + b"".join(values) + b"e"


def mapping(pairs):
    return b"}(" + b"".join(text(key) + value for key, value in pairs.items()) + b"u"


def name(full):
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def storage(key="0", kind="torch.FloatStorage", count=6, word="storage", extra=b""):
    return items(text(word), name(kind), text(key), text("cpu"), integer(count), extra) + b"Q"


ORDERED = name("collections.OrderedDict") + b")R"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, stored=None, more=b"", version=2):
    arguments = (stored or storage(), integer(offset), integers(shape), integers(strides), b"\x89", ORDERED, more)
    return name(f"torch._utils._rebuild_tensor_v{version}") + items(*arguments) + b"R"


def pickle(value, protocol=2):
    return b"\x80" + bytes([protocol]) + value + b"."


# ---- the ZIP layout ----


def zip_file(files, zip64=True, method=0, flags=8, shift=0, sizes=None, count=None, directory_bytes=None, tail=b""):
    """Entries as torch lays them out: sizes in the directory alone, places in ZIP64 fields."""
    out, directory = b"", b""
    for entry, content in files:
        entry = entry.encode()
        place = len(out) + shift
        padding = b"FB\4\0" + b"Z" * 4
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, flags, method, 0, 0, 0, 0, 0, len(entry), len(padding))
        out += entry + padding + content
        size = (sizes or {}).get(entry.decode(), len(content))
        field = struct.pack("<HHQQQ", 1, 24, size, size, place) if zip64 else b""
        seen = (0xFFFFFFFF,) * 3 if zip64 else (size, size, place)
        directory += struct.pack("<IHHHHHHIII", 0x02014B50, 0, 0, flags, method, 0, 0, 0, *seen[:2])
        directory += struct.pack("<HHHHHII", len(entry), len(field), 0, 0, 0, 0, seen[2]) + entry + field
    begin, count = len(out), len(files) if count is None else count
    size = len(directory) if directory_bytes is None else directory_bytes
    out += directory
    if zip64:
        end = len(out)
        out += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 0, 0, 0, 0, count, count, size, begin)
        out += struct.pack("<IIQI", 0x07064B50, 0, end, 1)
        count, size, begin = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    return out + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, begin, len(tail)) + tail


FLOATS = struct.pack("<6f", 1, 2, 3, 4, 5, 6)


def archive(value, storages=None, protocol=2, byteorder=b"little", **options):
    files = [("a/data.pkl", pickle(value, protocol))]
    if byteorder is not None:
        files.append(("a/byteorder", byteorder))
    files += [("a/data/" + key, content) for key, content in ({"0": FLOATS} if storages is None else storages).items()]
    return zip_file(files, **options)


# ---- the older layout ----


def legacy(value, keys=("0",), storages=((6, FLOATS),), magic=MAGIC, protocol=1001, little=b"\x88"):
    parts = [integer(magic), integer(protocol), mapping({"little_endian": little}), value, sequence(*map(text, keys))]
    return b"".join(map(pickle, parts)) + b"".join(struct.pack("<q", count) + data for count, data in storages)


# ---- the corpus ----


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()

    def write(file, content):
        (FOLDER / file).write_bytes(content)

    one = mapping({"w": tensor()})
    storages = {"0": FLOATS, "1": struct.pack("<4q", 1, 2, 3, 4)}

    write("valid_zip", archive(one))
    write("valid_zip32", archive(one, zip64=False, byteorder=None))
    write("valid_zip_comment", archive(one, tail=b"PK\5\6 not the end"))
    write("valid_legacy", legacy(one))
    write("valid_no_tensors", archive(b"}", {}))
    write(
        "valid_checkpoint",
        archive(
            mapping(
                {
                    "epoch": integer(29),
                    "best": b"G" + struct.pack(">d", 70.5),
                    "done": b"\x88",
                    "note": b"N",
                    "big": integer(2**80),
                    "args": name("argparse.Namespace") + b")\x81" + mapping({"lr": integer(1)}) + b"b",
                    "scalar": name("numpy.core.multiarray.scalar") + items(name("numpy.dtype"), b"C\1x") + b"R",
                    "optimizer": mapping({"state": b"}" + integer(0) + tensor() + b"s"}),
                    "model": ORDERED
                    + b"("
                    + text("module.w")
                    + tensor()
                    + text("module.t")
                    + tensor((3, 2), (1, 3))
                    + text("module.e")
                    + tensor((0, 5), (5, 1), 6)
                    + text("module.c")
                    + tensor((), (), 3, storage("1", "torch.LongStorage", 4))
                    + text("module.p")
                    + name("torch._utils._rebuild_parameter")
                    + items(tensor(), b"\x88", ORDERED)
                    + b"R"
                    + b"u"
                    + mapping({"_metadata": b"}"})
                    + b"b",
                }
            ),
            storages,
        ),
    )
    untyped = storage(kind="torch.storage.UntypedStorage", count=24)
    write(
        "valid_protocol4",
        archive(
            b"\x95" + bytes(8) + b"}\x94\x8c\1w"
            b"\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v3\x93("
            + untyped
            + b"K\0K\3\x85K\1\x85\x89"
            + ORDERED
            + name("torch.uint64")
            + b"}tRs",
            protocol=4,
        ),
    )
    number = struct.pack("<I", 7)
    write("valid_memo", archive(b"}" + text("w") + tensor() + b"r" + number + b"s" + text("v") + b"j" + number + b"s"))
    pairs = sequence(sequence(text("w"), tensor()))
    write("valid_python2", legacy(name("collections.OrderedDict") + pairs + b"\x85R"))
    write("valid_nested", legacy(mapping({"a": mapping({"b": tensor(), "c": b"]"}), "d": b"}"})))

    write("empty", b"")
    write("not_ours", b"GIF89a")
    write("zip_cut", archive(one)[:-30])
    write("zip_no_pickle", zip_file([("a/other", b"")]))
    write("zip_two_pickles", zip_file([("a/data.pkl", pickle(one)), ("b/data.pkl", pickle(one))]))
    write("zip_twice", zip_file([("a/data.pkl", pickle(one))] * 2))
    write("zip_big_endian", archive(one, byteorder=b"big"))
    write("zip_compressed", archive(one, method=8))
    write("zip_encrypted", archive(one, flags=1))
    write("zip_wrong_count", archive(one, count=7))
    write("zip_huge_count", archive(one, count=2**63))
    write("zip_wrong_place", archive(one, shift=1))
    write("zip_far_place", archive(one, shift=2**63))
    write("zip_huge_size", archive(one, sizes={"a/data.pkl": 2**63}))
    write("zip_no_storage", archive(one, {}))
    write("zip_short_storage", archive(one, {"0": FLOATS[:-1]}))
    write("zip_overlap", overlapping())
    write("zip_no_directory64", archive(one).replace(struct.pack("<I", 0x06064B50), b"none"))
    write("zip_huge_directory", archive(one, directory_bytes=2**62))
    write("zip_long_directory", archive(one, directory_bytes=2**20))

    write("legacy_wrong_magic", legacy(one, magic=2**80))
    write("legacy_wrong_protocol", legacy(one, protocol=1000))
    write("legacy_big_endian", legacy(one, little=b"\x89"))
    write("legacy_unknown_key", legacy(one, keys=("1",)))
    write("legacy_key_twice", legacy(one, keys=("0", "0"), storages=((6, FLOATS),) * 2))
    write("legacy_no_key", legacy(one, keys=(), storages=()))
    write("legacy_wrong_count", legacy(one, storages=((7, FLOATS),)))
    write("legacy_short", legacy(one, storages=((6, FLOATS[:-1]),)))
    write("legacy_long", legacy(one) + b"x")
    view = items(text("0"), integer(0), integer(6))
    write("legacy_view", legacy(mapping({"w": tensor(stored=storage(extra=view))})))

    write("global_system", archive(name("os.system") + items(text("false")) + b"R"))
    write("global_unused", archive(mapping({"x": name("builtins.eval")})))
    write("global_in_args", archive(mapping({"model": one, "args": name("subprocess.Popen") + b")\x81}b"})))
    write("global_stack", archive(b"\x8c\5posix\x8c\6system\x93", protocol=4))
    write("global_class", archive(name("models.Net") + b")\x81"))
    write("global_dotted", archive(name("torch._utils") + b")R"))
    write("global_long", archive(b"c" + b"x" * 300 + b"\n\x1b[31m\n"))
    write("call_of_text", archive(text("f") + b")R"))
    write("call_of_object", archive(name("numpy.dtype") + b")R)R"))

    write("opcode_unknown", archive(b"\xff"))
    write("opcode_extension", archive(b"\x82\1"))
    write("no_proto", zip_file([("a/data.pkl", one + b".")]))
    write("protocol_0", archive(one, protocol=0))
    write("protocol_6", archive(one, protocol=6))
    write("no_stop", zip_file([("a/data.pkl", pickle(one)[:-1])]))
    write("stack_empty", archive(b""))
    write("stack_below_mark", archive(b"N(0"))
    write("no_mark", archive(b"t"))
    write("memo_unknown", archive(b"h\7"))
    write("text_huge", archive(b"\x8d" + struct.pack("<Q", 2**63)))
    write("bytes_huge", archive(b"B" + struct.pack("<I", 2**32 - 1)))
    write("text_not_utf8", archive(text(b"\xc0\x80")))
    write("text_surrogate", archive(text(b"\xed\xa0\x80")))
    write("odd_items", archive(b"}(Nu"))
    write("fill_text", archive(text("a") + b"(NNu"))
    write("append_to_dict", archive(b"}Na"))
    write("build_on_list", archive(b"]}b"))

    write("root_tensor", archive(tensor()))
    write("root_list", archive(sequence(one)))
    write("in_itself", archive(b"}q\0" + text("a") + b"h\0s"))
    write("in_itself_deeper", archive(b"}q\0" + text("a") + b"}" + text("b") + b"h\0ss"))
    bomb = b"}q\0" + text("x") + b"Ns"
    for level in range(1, 30):
        below = b"h" + bytes([level - 1])
        bomb += b"}q" + bytes([level]) + b"(" + text("a") + below + text("b") + below + b"u"
    write("doubling", archive(bomb))
    write("deep", archive((b"}" + text("a")) * 200 + b"}" + b"s" * 200))
    write("valid_deep_tuples", archive(mapping({"w": tensor(), "deep": b")" + b"\x85" * 3000})))
    write("name_twice", archive(b"}(" + (text("w") + tensor()) * 2 + b"u"))
    write("name_twice_flat", archive(mapping({"a.b": tensor(), "a": mapping({"b": tensor()})})))
    write("name_long", archive(mapping({"n" * 600: tensor()})))
    write("name_tuple", archive(b"}" + b")" + tensor() + b"s"))

    def broken(**options):
        return archive(mapping({"w": tensor(**options)}))

    write("tensor_out_of_range", broken(shape=(7,), strides=(1,)))
    write("tensor_stride_out", broken(strides=(4, 1)))
    write("tensor_offset_out", broken(offset=1))
    write("tensor_offset_empty", broken(shape=(0,), strides=(1,), offset=7))
    write("tensor_stride_wraps", broken(strides=(2**62, 2**62)))
    write("tensor_product_wraps", broken(shape=(2**32, 2**32), strides=(0, 0)))
    write("tensor_expanded", broken(shape=(2**40,), strides=(0,)))
    write("tensor_negative_size", broken(shape=(-1,), strides=(1,)))
    write("tensor_negative_stride", broken(strides=(-3, 1)))
    write("tensor_negative_offset", broken(offset=-1))
    write("tensor_ranks", broken(strides=(1,)))
    write("tensor_rank_65", broken(shape=(1,) * 65, strides=(1,) * 65))
    rebuild = name("torch._utils._rebuild_tensor_v2")
    write("tensor_size_text", archive(rebuild + items(storage(), integer(0), text("ab"), text("ab"), b"\x89", b"}") + b"R"))
    write("tensor_few_arguments", archive(rebuild + items(storage()) + b"R"))
    write("tensor_no_storage", broken(stored=b"N"))
    write("tensor_conjugate", broken(more=mapping({"conj": b"\x88"})))
    write("tensor_untyped", broken(stored=untyped))
    write("tensor_two_dtypes", broken(version=3, more=name("torch.uint64")))
    write("tensor_dtype", broken(version=3, more=name("torch.complex64"), stored=untyped))
    write("parameter_of_nothing", archive(name("torch._utils._rebuild_parameter") + b")R"))
    write("storage_class", broken(stored=storage(kind="collections.OrderedDict")))
    write("storage_huge", broken(stored=storage(count=2**62)))
    write("storage_negative", broken(stored=storage(count=-1)))
    write("storage_word", broken(stored=storage(word="module")))
    write("storage_key_long", broken(stored=storage(key="k" * 200)))
    write("storage_two_sizes", archive(mapping({"a": tensor(), "b": tensor(stored=storage(count=5))})))
    write("storage_no_tuple", archive(b"NQ"))


def overlapping():
    """The second storage's place is moved into the first, which holds the same bytes: header and all."""
    inner = zip_file([("a/data/1", FLOATS)], zip64=False)
    inner = inner[: inner.index(b"PK\1\2")]
    first = tensor(stored=storage("0", "torch.ByteStorage", len(inner)))
    whole = archive(mapping({"a": first, "b": tensor(stored=storage("1"))}), {"0": inner, "1": FLOATS}, zip64=False)
    inside, outside = whole.index(inner), whole.rindex(inner)
    return whole.replace(struct.pack("<I", outside) + b"a/data/1", struct.pack("<I", inside) + b"a/data/1")


if __name__ == "__main__":
    main()
