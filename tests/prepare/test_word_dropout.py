from dpo_lab.prepare.copies import HELD_OUT, NO_TURN, SAME
from dpo_lab.prepare.word_dropout import word_dropout
from tests.prepare.rows import on_training, pair

ROWS = [pair(f"number {n} of many words that stand in one line", source=f"a.jsonl row {n}") for n in range(300)]


def test_copies_say_from_which_row_they_are_and_lose_words_at_the_rate():
    """2 x 300 prompts of 10 words with rate 0.2: 1200 of 6000 words, standard deviation 31."""
    prepared, counts = on_training(word_dropout(rate=0.2, num_copies=2), ROWS)
    originals, copies = [r for r in prepared if r in ROWS], [r for r in prepared if r not in ROWS]
    assert originals == ROWS
    assert counts["made"] + counts["details"][SAME] == 600 and counts["kept"] == 300 + counts["made"] == len(prepared)
    assert prepared[1].source == "a.jsonl row 0, step 1"
    assert all(copy.responses == ("good", "bad") and copy.pairs == ((0, 1),) for copy in copies)
    lost = 0
    for copy in copies:
        row = ROWS[int(copy.source.split(",")[0].rpartition(" ")[2])]
        words, left = str(row.prompt).split(), iter(str(copy.prompt).split())
        next_left = next(left)
        for word in words:
            if word == next_left:
                next_left = next(left, None)
            else:
                lost += 1
        assert next_left is None
    assert abs(lost - 1200) < 4 * 31


def test_what_is_drawn_depends_on_the_seed_and_the_prompt_alone():
    step = word_dropout(rate=0.3)
    prepared, _ = on_training(step, ROWS)
    assert on_training(word_dropout(rate=0.3), ROWS)[0] == prepared
    assert on_training(step, ROWS[5:])[0] == prepared[10:]
    more, _ = on_training(word_dropout(rate=0.3, num_copies=2), ROWS)
    assert all(row in more for row in prepared)
    assert on_training(word_dropout(rate=0.3, seed=1), ROWS)[0] != prepared


def test_rows_themselves_lose_words_without_copies():
    prepared, counts = on_training(word_dropout(rate=0.5, num_copies=0), ROWS)
    assert [row.source for row in prepared] == [row.source for row in ROWS]
    assert counts["changed"] == sum(a != b for a, b in zip(prepared, ROWS, strict=True)) > 290
    assert (counts["made"], counts["kept"]) == (0, 300)


def test_a_word_stays_and_chinese_characters_are_words():
    prepared, counts = on_training(word_dropout(rate=0.999), [pair("one"), pair("词汇阅读是关键")])
    assert [row.prompt for row in prepared[:2]] == ["one", "词汇阅读是关键"]
    assert len(prepared[2].prompt) == 1 and prepared[2].prompt in "词汇阅读是关键"
    assert counts["details"] == {SAME: 1}


def test_of_a_chat_the_last_turn_of_the_user_alone():
    def turns(asked: str):
        contents = ["you are kind", "first of all", "yes my friend", asked]
        return [
            {"role": role, "content": content}
            for role, content in zip(["system", "user", "assistant", "user"], contents, strict=True)
        ]

    [row, copy], _ = on_training(word_dropout(rate=0.9), [pair(turns("second of all"))])
    assert copy.prompt[:3] == row.prompt[:3] and copy.prompt[3]["content"] in ("second ", "of ", "all")
    _, counts = on_training(word_dropout(), [pair([{"role": "system", "content": "a b c"}])])
    assert counts["details"] == {NO_TURN: 1} and counts["made"] == 0


def test_no_copy_has_a_prompt_that_is_held_out():
    held_out = [pair("ONE"), pair("two")]
    prepared, counts = on_training(word_dropout(rate=0.9, num_copies=20), [pair("one two")], held_out)
    assert prepared == [pair("one two")]
    assert counts["details"][HELD_OUT] > 10
    assert {row.prompt for row in prepared} == {"one two"}
