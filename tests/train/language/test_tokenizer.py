import torch

from emotion_train.language.tokenizer import tokenize

START, END = 49406, 49407


def test_known_sentence():
    """Ids from the published CLIP vocabulary, as in the CLIP repository's own example."""
    tokens = tokenize(["a diagram"])
    assert tokens.dtype == torch.int64
    assert tokens.shape == (1, 77)
    assert tokens[0, :5].tolist() == [START, 320, 22697, END, 0]


def test_rows_start_end_and_are_padded():
    tokens = tokenize(["", "I am so happy for you!", "Oh no."])
    assert tokens[0].tolist() == [START, END] + 75 * [0]
    for row in tokens:
        end = row.argmax()  # where the text tower reads
        assert row[0] == START
        assert row[end] == END
        assert (row[1:end] < START).all()
        assert (row[end + 1 :] == 0).all()


def test_case_does_not_matter():
    assert torch.equal(tokenize(["Why me?"]), tokenize(["WHY ME?"]))


def test_long_sentences_are_truncated_before_the_end_token():
    tokens = tokenize(["sad " * 100], context_length=20)
    assert tokens.shape == (1, 20)
    assert tokens[0, -1] == END
    assert len(set(tokens[0, 1:-1].tolist())) == 1


def test_no_sentences():
    assert tokenize([]).shape == (0, 77)
