import pytest

from indeed.files import atomic_write


def test_a_failed_write_leaves_the_old_content_and_no_other_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("the disk is tired")

    with pytest.raises(RuntimeError, match="tired"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link_to_the_new_content(tmp_path):
    target, link = tmp_path / "a.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError, match="not a regular file"), atomic_write(tmp_path):
        pass


def test_a_missing_folder_is_named_by_the_target_and_not_by_the_temporary_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "nowhere" / "a.txt"):
        pass
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")
