from dpo_lab.data.errors import NUM_SHOWN, Problem, problems_error


def test_all_problems_are_counted_and_the_first_are_shown():
    """9 and 5 problems of two kinds: 4 lines of each, then "5 more" and "1 more"; the commoner kind comes first."""
    problems = [Problem(f"a.jsonl row {n}", "empty_response", "chosen", "the response is empty") for n in range(9)]
    others = [Problem(f"b.jsonl row {n}", "wrong_encoding", None, "byte 0xe9", "'caf�'") for n in range(5)]
    message = str(problems_error([*others, *problems], "Do this."))
    assert message.count("a.jsonl row") == message.count("b.jsonl row") == NUM_SHOWN == 4
    assert "14 rows cannot be used (9 empty_response, 5 wrong_encoding)" in message
    assert "  9 empty_response: a response is empty" in message
    assert message.index("and 5 more") < message.index("and 1 more") < message.index("Save the file as UTF-8.")
    assert "b.jsonl row 0: byte 0xe9: 'caf�'" in message
    assert message.endswith("Do this.")
    assert "a.jsonl row 0, column 'chosen': the response is empty" in message
