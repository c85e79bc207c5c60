"""Members have the same tokenizer files, so that their digests are one."""

from transformers import AutoTokenizer

from training import saved_tokenizer


def test_files_do_not_tell_whether_the_tokenizer_was_loaded_offline(tiny_base, tmp_path):
    for offline in (True, False):
        tokenizer = AutoTokenizer.from_pretrained(tiny_base, local_files_only=offline)
        saved_tokenizer.save(tokenizer, tmp_path / str(offline))
    saved = {
        folder: {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("True", "False")
    }
    assert "tokenizer_config.json" in saved["True"]
    assert saved["True"] == saved["False"]
