"""Writes the seed corpus of safetensors_fuzzer: valid files, and one hostile file per rule.

The files are committed; this is how to make them again:  python3 fuzz/make_safetensors_corpus.py
tests/io/safetensors_replay_test.cpp says what each hostile file must be refused for.
"""

import json
import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "corpus" / "safetensors"


def write(name, header, data=b"", length=None):
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode()
    length = len(header) if length is None else length
    (FOLDER / name).write_bytes(struct.pack("<Q", length) + header + data)


def tensor(dtype="U8", shape=(2,), begin=0, end=2, **extra):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **extra}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    two = b"\1\2"

    write("valid_no_tensors", "{}")
    write("valid_padded", '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}   ', two)
    write("valid_metadata", {"__metadata__": {"format": "pt", "": "\u00e9"}, "a": tensor()}, two)
    write(
        "valid_many",
        {
            "w.x": tensor("F32", (2, 3), 0, 24),
            "scalar": tensor("F64", (), 24, 32),
            "empty": tensor("I64", (0, 5), 32, 32),
            "codes": tensor("I8", (2,), 32, 34),
            "mask": tensor("BOOL", (1, 2), 34, 36),
        },
        struct.pack("<6fd", 1, 2, 3, 4, 5, 6, 7) + b"\1\xff\0\1",
    )

    (FOLDER / "too_short").write_bytes(b"\1\2\3")
    write("length_zero", "", two)
    write("length_huge", "{}", length=2**63)
    write("length_above_limit", "{}", length=100_000_001)
    write("length_beyond_file", "{}", length=3)

    write("not_json", "{not json}")
    write("not_an_object", "[]")
    write("leading_space", " {}")
    write("only_open", "{")
    write("two_documents", "{}{}")
    write("deep_array", '{"a":' + "[" * 400)
    write("deep_object", '{"a":' * 80)
    write("invalid_utf8", b'{"\xff\xfe":{}}')
    write("surrogate", '{"\\ud800":{}}')
    write("null_tensor", '{"a":null}')
    write("number_tensor", '{"a":1}')
    write("array_tensor", '{"a":[]}')
    write("extra_field", {"a": tensor(extra=1)}, two)
    write("missing_field", {"a": {"dtype": "U8", "shape": [2]}}, two)
    write("empty_tensor", {"a": {}})

    one = '"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
    write("duplicate_tensor", "{" + one + "," + one + "}", two)
    write("duplicate_field", '{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', two)
    write("duplicate_metadata", '{"__metadata__":{"k":"1","k":"2"}}')
    write("duplicate_metadata_object", '{"__metadata__":{},"__metadata__":{}}')
    write("metadata_number", {"__metadata__": {"k": 1}})
    write("metadata_object", {"__metadata__": {"k": {}}})
    write("metadata_string", {"__metadata__": "k"})

    write("dtype_unknown", {"a": tensor("F4", (4,))}, two)
    write("dtype_control", {"a": tensor("\u001b[31m" + "x" * 300)}, two)
    write("dtype_number", {"a": tensor(7)}, two)
    write("shape_string", '{"a":{"dtype":"U8","shape":"2","data_offsets":[0,2]}}', two)
    write("shape_negative", {"a": tensor(shape=(-2,))}, two)
    write("shape_fraction", {"a": tensor(shape=(2.0,))}, two)
    write("shape_nested", '{"a":{"dtype":"U8","shape":[[2]],"data_offsets":[0,2]}}', two)
    write("shape_64_bits", {"a": tensor(shape=(2**63,))}, two)
    write("shape_beyond_64_bits", {"a": tensor(shape=(2**64,))}, two)
    write("shape_product_overflows", {"a": tensor(shape=(2**32, 2**32, 2))}, two)
    write("shape_bytes_overflow", {"a": tensor("F64", (2**60, 2**3), 0, 0)})
    write("shape_overflow_behind_zero", {"a": tensor("U8", (0, 2**62, 4), 0, 0)})
    write("shape_rank", {"a": tensor(shape=(1,) * 64 + (2,))}, two)

    write("offsets_one", '{"a":{"dtype":"U8","shape":[2],"data_offsets":[2]}}', two)
    write("offsets_three", '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,2]}}', two)
    write("offsets_negative", {"a": tensor(begin=-2, end=0)}, two)
    write("offsets_reversed", {"a": tensor(begin=2, end=0)}, two)
    write("offsets_out_of_range", {"a": tensor(shape=(4,), end=4)}, two)
    write("offsets_wrap", {"a": tensor(begin=2**64 - 2, end=2**64 - 1, shape=(1,))}, two)
    write("offsets_hole", {"a": tensor(shape=(1,), end=1), "b": tensor(shape=(1,), begin=2, end=3)}, b"\1\2\3")
    write("offsets_overlap", {"a": tensor(), "b": tensor(begin=1, end=3)}, b"\1\2\3")
    write("offsets_late_start", {"a": tensor(shape=(1,), begin=1, end=2)}, two)
    write("byte_count_large", {"a": tensor("F32", (1,))}, two)
    write("byte_count_small", {"a": tensor(shape=(1,))}, two)
    write("trailing_bytes", {"a": tensor()}, two + b"\3")
    write("trailing_bytes_only", "{}", two)
    write("bool_two", {"a": tensor("BOOL")}, two)


if __name__ == "__main__":
    main()
