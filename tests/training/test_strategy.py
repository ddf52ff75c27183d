"""What processes tell one another, played by threads; real ones are in test_parallel.py."""

import signal
import threading

import keras
import numpy as np
import pytest

from stm_keras.errors import OutputError, TrainingError
from stm_keras.signals import Preempted, notice
from stm_keras.training.callbacks import AverageLogs, Interrupt
from stm_keras.training.parallel import CHECK_EVERY, SINGLE, Strategy


class Player(Strategy):
    """One of two threads that exchange rows as processes do."""

    world = 2

    def __init__(self, rank, table, barrier):
        self.rank, self.table, self.barrier = rank, table, barrier

    def gather(self, row):
        self.table[self.rank] = row.copy()
        self.barrier.wait(10)
        rows = np.stack([self.table[0], self.table[1]])
        self.barrier.wait(10)
        return rows


def play(act):
    """Have two players do something at a time; return what each gave or raised."""
    table, barrier, given = {}, threading.Barrier(2), {}

    def run(rank):
        try:
            given[rank] = act(Player(rank, table, barrier))
        except Exception as error:
            given[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return given[0], given[1]


def test_one_process_says_so_and_all_agree():
    assert play(lambda player: player.exchange(15 * player.rank)) == ([0, 15], [0, 15])
    assert play(lambda player: player.exchange("a" * player.rank)) == (["", "a"],) * 2
    assert SINGLE.exchange(15) == [15]


def test_only_the_first_works_and_all_know_the_result():
    done = []

    def work():
        done.append(1)
        return {"loss": 0.1, "epoch": 3}

    assert (
        play(lambda player: player.run_on_first(work)) == ({"loss": 0.1, "epoch": 3},) * 2
    )
    assert done == [1]


def test_where_the_first_fails_the_others_stop_as_well():
    def work():
        raise OutputError("the disk is full")

    first, other = play(lambda player: player.run_on_first(work))
    assert isinstance(first, OutputError)
    assert isinstance(other, TrainingError)
    assert str(other) == "The first process stopped: the disk is full"


def test_logs_are_averaged():
    def act(player):
        logs = {"loss": 1.0 + player.rank, "state_loss": 0.25}
        AverageLogs(player).on_epoch_end(0, logs)
        return logs

    assert play(act) == ({"loss": 1.5, "state_loss": 0.25},) * 2


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, Preempted)]
)
def test_all_stop_at_the_same_step_when_one_is_asked(number, raised, monkeypatch):
    def act(player):
        interrupt = Interrupt(player)
        for step in range(5 * CHECK_EVERY):
            if player.rank == 1 and step == CHECK_EVERY + 1:
                if raised is KeyboardInterrupt:
                    interrupt.pressed = True
                else:  # these threads share what processes have one each of
                    monkeypatch.setattr(notice, "number", number)
            try:
                interrupt.on_train_batch_end(step)
            except raised:
                return step
        return None

    assert play(act) == (2 * CHECK_EVERY, 2 * CHECK_EVERY)


def test_the_first_works_with_a_copy_that_has_the_weights_of_now():
    def make():
        entry = keras.Input((3,))
        return keras.Model(entry, keras.layers.Dense(2)(entry))

    strategy = Strategy()
    model, strategy.copy = make(), make()
    kernel = strategy.run_on_copy(lambda given: given.get_weights()[0].tolist(), model)
    np.testing.assert_array_equal(kernel, model.get_weights()[0])
    assert strategy.run_on_copy(lambda given: given is strategy.copy, model)
    assert SINGLE.run_on_copy(lambda given: given is model, model)
