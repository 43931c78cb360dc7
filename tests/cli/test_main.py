"""The command as a process: exit codes, signals, streams, environment."""

import os
import signal
import subprocess
import sys

import pytest

from indeed.data.image_files import write_image


def command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "indeed.cli", *(str(argument) for argument in arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
def test_the_process_decomposes_and_says_nothing_on_standard_error(photo, tmp_path, checkpoints, contents):
    done = command("decompose", photo, "-o", tmp_path / "out", "--checkpoint", checkpoints["denoise_color"])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(contents(tmp_path / "out")) == 5


@pytest.mark.slow
def test_the_process_ends_with_2_and_one_line(tmp_path):
    done = command("denoise", tmp_path / "none.png", "-o", tmp_path / "out.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"indeed: {tmp_path / 'none.png'}: no such file or directory\n"


def test_a_misspelt_option_ends_with_2(run, photo, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("denoise", photo, "--aut", "b.png")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("given", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_do_not_spin_unless_the_user_says_so(given, expected):
    watch = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            sys.exit(os.environ.get("OMP_WAIT_POLICY"))  # what OpenMP would read
sys.meta_path.insert(0, Watch())
from indeed.cli import main
main(["info", "none"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", watch], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [expected]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_write_that_the_system_refuses_leaves_no_file(tmp_path, checkpoints, contents, random_picture):
    import resource

    write_image(tmp_path / "photo.png", random_picture(200, 200))
    done = command(
        *("denoise", tmp_path / "photo.png", "-o", tmp_path / "out.png"),
        *("--checkpoint", checkpoints["denoise_color"]),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"indeed: {tmp_path / 'photo.png'}: ")
    assert done.stderr.endswith(f"{tmp_path / 'out.png'}: cannot be written: file too large\n")
    assert contents(tmp_path) == {"photo.png"}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_ends_with_130_and_leaves_no_file(tmp_path, checkpoints, contents, random_picture):
    write_image(tmp_path / "large.png", random_picture(1000, 1000, 1))
    speaks = """
import sys
from indeed.cli import main
from indeed.networks.inference_network import InDeed
forward = InDeed.forward
InDeed.forward = lambda *given: (print("tiles", flush=True), forward(*given))[1]
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["denoise", "large.png", "-o", "out.png", "--checkpoint", checkpoints["denoise_grey"]]
    with subprocess.Popen(
        [sys.executable, "-c", speaks, *arguments, "--overlap", "15"],  # at this overlap the tiles take minutes
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout.readline() == "tiles\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "indeed: interrupted\n")
    assert contents(tmp_path) == {"large.png"}


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_traceback(checkpoints):
    line = [sys.executable, "-m", "indeed.cli", "info", checkpoints["denoise_grey"]]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141
