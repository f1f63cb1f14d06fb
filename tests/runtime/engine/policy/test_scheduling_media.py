"""The scheduler with pictures among the tokens, against the same machine as without."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.policy.batch import Batch
from runtime.engine.policy.sequence import Sequence
from runtime.engine.values.edits import Copy, Cut, Edit, Park
from runtime.engine.values.media import Media
from runtime.engine.values.request import PromptBuilder
from tests.scheduler_machine import Machine, expected

N_BATCH = 16


@dataclass(frozen=True)
class Picture:
    key: str
    num_tokens: int
    num_positions: int
    is_causal: bool = True


LONG = Picture("long", 30, 30)
WHOLE = Picture("whole", 9, 9, is_causal=False)
GRID = Picture("grid", 6, 3)
OTHER = Picture("other", 6, 3)


def placed(parts: list[int | Picture]) -> PromptBuilder:
    placing = PromptBuilder()
    for part in parts:
        if isinstance(part, int):
            placing.add_text([part])
        else:
            start = len(placing.tokens)
            placing.add_media(Media(part.key, start, part.num_tokens, part.num_positions, part.is_causal))
    return placing


def positions(parts: list[int | Picture], num_generated: int) -> list[int]:
    """Return the position of each token, counted by hand: all of a picture's are that of its beginning."""
    found, position = [], 0
    for part in [*parts, *[0] * num_generated]:
        if isinstance(part, int):
            found.append(position)
            position += 1
        else:
            is_grid = part.num_positions != part.num_tokens
            found += [position + (0 if is_grid else index) for index in range(part.num_tokens)]
            position += part.num_positions
    return found


@dataclass
class PictureMachine(Machine):
    """Knows the position of each cell, and that a picture is never in a batch with tokens."""

    n_ctx: int = 120
    n_batch: int = N_BATCH
    places: dict[int, list[int]] = field(default_factory=dict)  # of each slot's cells
    wanted: dict[int, list[int]] = field(default_factory=dict)  # of each sequence's tokens
    steps: list[str] = field(default_factory=list)

    def ask(self, number: int, parts: list[int | Picture], max_tokens: int, **more: object) -> Sequence:
        placing = placed(parts)
        self.wanted[number] = positions(parts, max_tokens)
        return self.add(number, placing.tokens, max_tokens, media=tuple(placing.media), **more)

    def edit(self, edit: Edit) -> None:
        held = self.places.setdefault(edit.slot, [])
        match edit:
            case Cut(slot, keep):
                num_kept = sum(place < keep for place in held)
                assert held[:num_kept] == [place for place in held if place < keep], "a picture was cut in two"
                del held[num_kept:]
                super().edit(Cut(slot, num_kept))
                return
            case Copy(source, slot, count):
                held += [place for place in self.places[source] if place < count]
                super().edit(Copy(source, slot, len(held)))
                return
            case Park(_slot, parked):
                assert min(parked.tokens) >= 0, "a picture was parked"
                super().edit(edit)
            case _:
                super().edit(edit)
                held[:] = range(len(self.cells[edit.slot]))

    def compute(self, batch: Batch) -> None:
        self.steps.append("picture" if batch.media else "text")
        if batch.media is None:
            owners = {sequence.slot: sequence for sequence, _count in batch.parts}
            for entry in batch.entries:
                self.take(owners[entry.slot], entry.slot, entry.token, entry.position)
            return
        assert not batch.entries, "tokens are in a batch with a picture"
        part, ((sequence, count),) = batch.media, batch.parts
        assert count == part.count <= N_BATCH
        assert part.media.is_causal or (part.first, count) == (0, part.media.num_tokens), "a picture was torn"
        is_grid = part.media.num_positions != part.media.num_tokens
        start = self.wanted[sequence.id][part.media.start]
        assert part.position == start + part.first
        for index, token in enumerate(part.media.stand_ins()[part.first : part.first + count]):
            self.take(sequence, part.slot, token, start if is_grid else part.position + index)

    def take(self, sequence: Sequence, slot: int, token: int, position: int) -> None:
        held = self.cells.setdefault(slot, [])
        assert position == self.wanted[sequence.id][len(held)], "a token was computed at the wrong place"
        held.append(token)
        self.places.setdefault(slot, []).append(position)


PARTS = st.lists(st.one_of(st.integers(1, 2), st.sampled_from([LONG, WHOLE, GRID, OTHER])), max_size=5)


@settings(max_examples=300)
@given(
    prompts=st.lists(st.tuples(PARTS, st.integers(1, 20)), min_size=1, max_size=7),
    num_slots=st.integers(1, 4),
    is_cuttable=st.booleans(),
    context_shift=st.booleans(),
    n_ctx=st.integers(160, 300),
    parking_bytes=st.sampled_from([0, 1000]),
)
def test_every_sequence_ends_with_the_text_it_would_have_alone(
    prompts: list[tuple[list[int | Picture], int]],
    num_slots: int,
    is_cuttable: bool,
    context_shift: bool,
    n_ctx: int,
    parking_bytes: int,
) -> None:
    machine = PictureMachine(
        n_ctx=n_ctx,
        num_slots=num_slots,
        is_cuttable=is_cuttable,
        context_shift=context_shift,
        parking_bytes=parking_bytes,
    )
    for number, (parts, max_tokens) in enumerate(prompts):
        machine.ask(number, [7, *parts, 8], max_tokens)
        machine.step()
    machine.run()
    for number, (parts, max_tokens) in enumerate(prompts):
        wanted = expected(placed([7, *parts, 8]).tokens, max_tokens, n_ctx)
        assert (machine.texts.get(number, ""), machine.ends[number].reason) == wanted


def test_a_picture_in_a_conversation_that_goes_on_is_not_computed_again() -> None:
    machine = PictureMachine()
    machine.ask(1, [1, LONG, 2], 1)
    machine.run()
    assert machine.steps.count("picture") == 2
    machine.ask(2, [1, LONG, 2, 3, GRID, 4], 1)
    machine.run()
    assert machine.steps.count("picture") == 3
    assert machine.ends[2].timings.num_cached_tokens == 32


def test_another_picture_at_the_same_place_is_another_text() -> None:
    machine = PictureMachine(num_slots=1)
    machine.ask(1, [1, GRID, 2], 1)
    machine.run()
    machine.ask(2, [1, OTHER, 2], 1)
    machine.run()
    assert machine.ends[2].timings.num_cached_tokens == 1


def test_of_a_picture_that_is_begun_nothing_is_reused() -> None:
    machine = PictureMachine(num_slots=1)
    sequence = machine.ask(1, [1, LONG, 2], 1)
    machine.step()
    machine.step()
    assert 1 < len(machine.cells[0]) < 31
    machine.scheduler.remove(sequence)
    machine.ask(2, [1, LONG, 2], 1)
    machine.run()
    assert machine.ends[2].timings.num_cached_tokens == 1


def test_others_get_a_token_after_each_step_of_a_picture() -> None:
    machine = PictureMachine()
    talker = machine.ask(1, [5], 60, ignore_eos=True)
    machine.step()
    machine.ask(2, [1, LONG, 2], 1)
    machine.steps.clear()
    before = talker.num_generated
    while 2 not in machine.ends:
        machine.step()
    text = machine.steps.count("text")
    assert machine.steps.count("picture") == 8  # of at most four tokens each
    assert text >= 8
    assert talker.num_generated == before + text


@pytest.mark.parametrize("length", range(15, 27))
def test_a_picture_that_must_be_whole_waits_until_there_is_room(length: int) -> None:
    machine = PictureMachine(n_ctx=60, num_slots=2)
    machine.ask(1, [5] * length, 15, ignore_eos=True)
    machine.step()
    machine.ask(2, [*[1] * 24, WHOLE, 2], 1, ignore_eos=True)
    machine.run()
    assert [machine.ends[number].timings.num_generated_tokens for number in (1, 2)] == [15, 1]


def test_with_pictures_a_full_context_ends_the_answer_though_it_could_shift() -> None:
    machine = PictureMachine(n_ctx=40, context_shift=True)
    machine.ask(1, [1, LONG, 2], 60, ignore_eos=True)
    machine.run()
    assert machine.ends[1].is_truncated
    assert machine.ends[1].timings.num_generated_tokens == 40 - 32


@pytest.mark.parametrize(("index", "position"), [(0, 0), (1, 1), (7, 4), (8, 5), (14, 8), (20, 14)])
def test_tokens_behind_a_grid_have_earlier_positions_than_indexes(index: int, position: int) -> None:
    sequence = PictureMachine().ask(1, [1, GRID, 2, GRID, 3], 9)
    assert sequence.position(index) == position
