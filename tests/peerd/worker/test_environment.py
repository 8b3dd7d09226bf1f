"""What the worker's process is told by its environment."""

from peerd.worker.process import child_environment


def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise() -> None:
    assert child_environment({}, 0)["OMP_WAIT_POLICY"] == "PASSIVE"
    assert child_environment({"OMP_WAIT_POLICY": "ACTIVE"}, 0)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_thread_count_is_passed_on_and_none_leaves_the_choice_to_torch() -> None:
    assert child_environment({}, 3)["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in child_environment({}, 0)
