from pathlib import Path

import pytest

from mongars.llm.catalogue import (
    CATALOGUE,
    GB,
    MB,
    Machine,
    expected_tokens_per_s,
    find,
    guessed_bytes_per_s,
    look_around,
    recommend,
)


def machine(memory_gb: float, cores: int = 4, *, available_gb: float | None = None) -> Machine:
    available = memory_gb if available_gb is None else available_gb
    return Machine(
        memory_bytes=int(memory_gb * GB),
        available_bytes=int(available * GB),
        disk_free_bytes=100 * GB,
        cores=cores,
        bytes_per_s=guessed_bytes_per_s(cores),
    )


def root_with(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def names(machine: Machine) -> list[str]:
    return [r.model.name for r in recommend(machine)]


def test_every_entry_is_complete_and_permissively_licensed():
    assert 6 <= len(CATALOGUE) <= 10
    assert len({model.name for model in CATALOGUE}) == len(CATALOGUE)
    for model in CATALOGUE:
        assert model.licence in ("apache-2.0", "mit")
        assert model.file.endswith(".gguf")
        assert model.repository.count("/") == 1
        assert 0.4 < model.parameters_b < 15
        # Four to eight bits a parameter, and some more for the embeddings.
        assert 0.5 < model.download_bytes / (model.parameters_b * 1e9) < 1.1


def test_a_small_board_is_only_offered_what_it_can_carry():
    assert names(machine(2.0)) == ["Qwen2.5-0.5B-Instruct"]


def test_a_machine_without_room_is_offered_nothing():
    assert names(machine(1.0)) == []


def test_the_largest_model_that_answers_comfortably_comes_first():
    recommended = recommend(machine(16.0, cores=8))
    assert recommended[0].model.name == "Mistral-7B-Instruct-v0.3"
    assert recommended[0].tokens_per_s >= 5.0
    slow = [r.model.name for r in recommended if r.tokens_per_s < 5.0]
    assert slow == [r.model.name for r in recommended][-len(slow) :]


def test_what_does_not_fit_is_only_listed_on_request_and_says_why():
    small = machine(4.0)
    assert all(r.fits for r in recommend(small))
    everything = recommend(small, all_models=True)
    assert len(everything) == len(CATALOGUE)
    assert "needs" in (everything[-1].why_not or "")


def test_a_full_disk_leaves_nothing_to_recommend():
    full = Machine(32 * GB, 32 * GB, 100 * MB, 8, 25e9)
    assert recommend(full) == []
    assert "disk" in (recommend(full, all_models=True)[0].why_not or "")


def test_what_fits_only_when_other_programs_end_is_marked_and_ranked_after():
    busy = machine(8.0, available_gb=2.0)
    recommended = recommend(busy)
    assert any(r.tight for r in recommended)
    assert not recommended[0].tight


def test_the_machine_is_read_below_the_given_root(tmp_path):
    root = root_with(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:  8000000 kB\nMemAvailable:  4000000 kB\nHugePages_Total: 0\n",
            "proc/self/status": "Cpus_allowed_list:\t0-3\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\x00",
        },
    )
    seen = look_around(50 * GB, root)
    assert seen == Machine(8_192_000_000, 4_096_000_000, 50 * GB, 4, 10e9)


def test_a_limit_of_the_control_group_counts_instead_of_the_whole_memory(tmp_path):
    root = root_with(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
            "sys/fs/cgroup/memory.max": "2000000000\n",
        },
    )
    assert look_around(0, root).memory_bytes == 2_000_000_000


def test_no_limit_of_the_control_group_is_no_limit(tmp_path):
    root = root_with(
        tmp_path,
        {"proc/meminfo": "MemTotal: 8000000 kB\n", "sys/fs/cgroup/memory.max": "max\n"},
    )
    assert look_around(0, root).memory_bytes == 8_192_000_000


def test_a_measured_speed_beats_the_guess(tmp_path):
    assert look_around(0, tmp_path, measured_bytes_per_s=7e9).bytes_per_s == 7e9


def test_the_formula_agrees_with_the_measurement_it_was_made_of():
    # 98 MB at 66 tokens a second on two cores.
    here = machine(8.0, cores=2)
    assert here.bytes_per_s / 98.4e6 == pytest.approx(66, rel=0.1)


def test_a_model_twice_as_large_is_half_as_quick():
    small, large = CATALOGUE[0], CATALOGUE[-1]
    here = machine(32.0)
    ratio = expected_tokens_per_s(small, here) / expected_tokens_per_s(large, here)
    assert ratio == pytest.approx(large.download_bytes / small.download_bytes)


def test_a_model_is_found_whatever_its_capitals():
    assert find("qwen3-8b") == find("Qwen3-8B")
    assert find("nothing") is None
