"""Tables are read as they were written, and hashed by names and bytes."""

from indeed.tables import data_hash, read_table, write_table


def test_a_table_is_read_as_it_was_written_with_its_gaps(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, [{"a": "1", "b": 'with "quotes", commas\nand lines'}, {"a": "2", "c": "3"}])
    assert read_table(path) == [
        {"a": "1", "b": 'with "quotes", commas\nand lines', "c": ""},
        {"a": "2", "b": "", "c": "3"},
    ]


def test_hash_depends_on_names_and_bytes_only(tmp_path):
    for folder, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(content)
        (tmp_path / folder / "2.png").write_bytes(b"z")
    a, b, c = ([tmp_path / folder / f"{i}.png" for i in (1, 2)] for folder in "abc")
    assert data_hash(a) == data_hash(b) == data_hash(a[::-1])
    assert len({data_hash(a), data_hash(c), data_hash(a[:1]), data_hash([])}) == 4
