from dpo_lab.data.errors import NUM_SHOWN, Problem, problems_error


def test_all_problems_are_counted_and_the_first_are_shown():
    """25 problems: 20 lines, and "5 more"."""
    problems = [Problem(f"a.jsonl row {n}", "empty_response", "chosen", "the response is empty") for n in range(25)]
    message = str(problems_error(problems, "Do this."))
    assert message.count("a.jsonl row") == NUM_SHOWN
    assert "25 rows cannot be used (25 empty_response)" in message
    assert "and 5 more" in message
    assert message.endswith("Do this.")
    assert "a.jsonl row 0, column 'chosen': the response is empty" in message
