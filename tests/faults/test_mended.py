"""Faults that were found once, each with its mend: taken out, its test fails."""

import asyncio
import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import altair as alt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import transformers as tf
from architectures import LISTENING, SEEING, SIZES, make_media_module, make_module, make_tokenizer
from safetensors.torch import load_file, save_file
from test_results import Model, finished, found
from transformers import AutoTokenizer

from semhub_utils import book, cli, finding, identity, lens, loading, markup, models, onfile, refused, results, tuned
from semhub_utils.chapter import LEAST, Chapter, begin, listing
from semhub_utils.errors import SemhubError, TooLong, aside, half_characters, in_memory, reason
from semhub_utils.experiments import alike, core, layers, words
from semhub_utils.identity import organism_path
from semhub_utils.inputs import Input, Sound
from semhub_utils.loading import load_model
from semhub_utils.models import wrap
from semhub_utils.results import Run
from semhub_utils.spokes import audio, languages
from semhub_utils.spokes.files import SAMPLES, below
from semhub_utils.spokes.items import Items, LensItem, Pair
from semhub_utils.spokes.languages import TypeTexts
from semhub_utils.states import hidden_states
from semhub_utils.tokens import word_forms


@pytest.fixture
def folder(tmp_path):
    make_module("llama").save_pretrained(tmp_path / "model")
    make_tokenizer("byte").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edited(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# Weights


def test_what_the_model_computes_itself_and_towers_are_left_out_without_a_word(tmp_path):
    """As in the files of GPT-2 on the hub: causal masks, names without the base model's, and a tower for pictures."""
    make_module("gpt2").save_pretrained(tmp_path)
    make_tokenizer("byte").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights = {name.removeprefix("transformer."): value for name, value in weights.items()}
    for k in range(3):
        weights |= {f"h.{k}.attn.bias": torch.ones(1, 1, 64, 64).tril(), f"h.{k}.attn.masked_bias": torch.tensor(-1e4)}
        weights[f"h.{k}.attn.rotary_emb.inv_freq"] = torch.ones(4)
    weights["vision_tower.encoder.layers.0.weight"] = torch.ones(2, 2)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, plain = load_model(str(tmp_path)), wrap(make_module("gpt2"), make_tokenizer("byte"), model_id="plain")
    assert torch.equal(model.unembedding, plain.unembedding)
    weights["h.1.attn.extra.weight"] = torch.ones(3)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SemhubError, match=r"holds h.1.attn.extra.weight that the model of its configuration"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", SEEING | LISTENING)
def test_models_that_see_or_hear_take_all_their_weights(tmp_path, name):
    module, processor = make_media_module(name)
    module.save_pretrained(tmp_path)
    found, info = type(module).from_pretrained(tmp_path, output_loading_info=True)
    refused.need_same_weights(name, found, info | {"mismatched_keys": []}, [tmp_path / "model.safetensors"])


def test_loading_is_quiet_unless_the_library_is_asked_to_speak(folder, capfd):
    tf.logging.enable_progress_bar()
    load_model(str(folder))
    assert "Loading weights" in capfd.readouterr().err
    refused.hush()
    load_model(str(folder))
    said = capfd.readouterr()
    assert said.out == said.err == ""


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to"), MemoryError()])
def test_memory_that_runs_out_at_loading_and_in_the_lens(folder, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    model = load_model(str(folder))
    states = hidden_states(model, ["a cat"]).hidden
    monkeypatch.setattr(lens, "_read_block", full)
    with pytest.raises(SemhubError, match="does not fit in memory; fewer or shorter prompts, .* would do"):
        lens.lens(model, states, top_k=1)
    monkeypatch.setattr(tf.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(SemhubError, match="does not fit in memory here .* would do"):
        load_model(str(folder))
    with pytest.raises(RuntimeError, match="another"), in_memory("x", "y"):
        raise RuntimeError("another")


def test_check_prints_json_also_of_what_is_no_number(folder, capsys):
    edited(folder, lambda weights: weights["model.embed_tokens.weight"][5].fill_(float("nan")))
    assert cli.main(["check", str(folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert not told["passed"] and told["checks"][0] | {"meaning": ""} == {
        "name": "finite", "value": None, "bound": 5e-5, "meaning": "", "passed": False,
    }  # fmt: skip


@pytest.mark.parametrize("given, code", [("{} 2>&-", 0), ("{}/none >&- 2>&-", 2)])
def test_a_command_does_its_work_where_nobody_listens(folder, given, code):
    line = f"{sys.executable} -m semhub_utils.cli check {given.format(folder)}"
    assert subprocess.run(["sh", "-c", line]).returncode == code


def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["check", "organism:hub"]) == 2
    assert re.fullmatch(r"semhub was called in a folder that is gone; .* would do\.\n", capsys.readouterr().err)


def test_prompts_of_the_checks_are_those_that_chapters_make(tiny):
    """With what the tokenizer puts in front: a fault of the first token alone is seen."""
    model = wrap(copy.deepcopy(tiny("llama").module), make_tokenizer("sentence"), model_id="begins")
    begin_id = model.tokenizer.bos_token_id
    assert any(prompt.ids[0] == begin_id for prompt in loading._texts(model))

    def overflows(part, args, output):
        return output.masked_fill((args[0] == begin_id)[..., None], float("inf"))

    model.module.get_input_embeddings().register_forward_hook(overflows)
    failed = [check for check in loading.self_check(model, raise_on_failure=False) if not check.passed]
    assert "finite" in {check.name for check in failed}


@pytest.mark.parametrize("name", ["a model.gguf", "a:b@c", "ü 'x' \"中\"", "{x}%s"])
def test_a_folder_may_have_any_name(folder, name):
    assert load_model(str(folder.rename(folder.with_name(name)))).n_layers == 3


def test_a_name_that_no_folder_can_have_is_none():
    for name in ("y" * 300, "\0", "\ud800", ""):
        assert identity.model_folder(name) is None and not identity.is_folder(name) and not identity.local(name)


# Prompts


def test_what_breaks_within_a_tokenizer_is_said_of_it(tiny, monkeypatch):
    """Also where it is none of Python's exceptions, as those of a library in Rust are not."""

    class Panic(BaseException):
        pass

    model = wrap(copy.deepcopy(tiny("llama").module), make_tokenizer("byte"), model_id="odd")
    for error in (Panic("no entry found"), TypeError("'>' not supported")):

        def broken(self, *args, error=error, **named):
            raise error

        monkeypatch.setattr(type(model.tokenizer), "__call__", broken)
        with pytest.raises(SemhubError, match=rf"The tokenizer of odd cannot be run \({error}\); .* would do"):
            model.encode(["never read before"])
        with pytest.raises(SemhubError, match="cannot be run"):
            _ = model.anchor


def test_a_panic_of_the_tokenizers_library_is_one_sentence(folder, capfd):
    """Its own lines, which come before, say nothing to a reader; what else is written meanwhile is told."""
    of = json.loads((folder / "tokenizer.json").read_text())
    said = [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around = {"type": "TemplateProcessing", "single": said, "pair": said, "special_tokens": {}}
    for change in {"post_processor": around}, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}:
        (folder / "tokenizer.json").write_text(json.dumps(of | change))
        assert cli.main(["check", str(folder)]) == 2
        told = capfd.readouterr().err
        assert told.count("\n") == 1 and told.startswith("The tokenizer of"), told
    with pytest.raises(ZeroDivisionError), aside():
        os.write(2, b"a bar\n")
        raise ZeroDivisionError
    with aside():
        os.write(2, b"another\n")
    assert capfd.readouterr().err == "a bar\nanother\n"


def test_what_a_reader_of_gguf_prints_is_not_told(tmp_path, capsys):
    """Where results are read by a program, as with --json."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16 + bytes(64))
    assert cli.main(["check", str(tmp_path / "a.gguf"), "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "cannot be read as a GGUF file" in told.err


def test_a_context_of_no_token_is_not_stated(tiny):
    for n in (0, -1):
        assert models._context(SimpleNamespace(max_position_embeddings=n)) is None
        assert models._context(SimpleNamespace(max_position_embeddings=n, n_ctx=7)) == 7


def test_where_no_item_is_left_it_cannot_be_tested(own, tmp_path):
    """Whatever they were left out for, and before."""
    model = own("llama")
    table, claims = core.run(alike.Alike(), model, [], series="s")
    assert table["n"].isin([0]).all() and claims and all(claim.n == 0 for claim in claims)
    assert lens.lens(model, torch.zeros(0, 1, model.hidden_size), layers=[1], top_k=1).top_ids.shape == (0, 1, 1)
    with pytest.raises(SemhubError, match="no sentences in every language that can be used. Left out: 1 × too long"):
        some = Items()
        some.drop("too long", "here")
        languages.pair_sets(some)
    run, _ = finished(tmp_path, Model())
    asked = finding.Finding(run, pd.DataFrame(), [found()])
    assert "Nothing is left to ask this of: So …." in asked.claims("similarity", "So {name}.", of=[]).html
    assert list(listing([("a", "b")], ["x", "y", "z"]).data.iloc[0]) == ["a", "b", ""]


def test_a_chapter_without_any_data_type_ends_in_one_sentence(own, tmp_path):
    asked = Chapter(Run("x", model := own("llama"), {"seed": 0}, tmp_path), model)
    with pytest.raises(SemhubError, match="takes no item of any data type; .* would do"):
        asked.run(alike.Alike(), {})


def test_a_recording_of_what_the_world_has_no_word_for_is_asked_about():
    """A dog, and rain: a folder of ESC-50 with the book's own model was a raw KeyError."""
    dog, rain = (SimpleNamespace(label=label, input=None) for label in ("dog", "rain"))
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "heard", lambda clip, text: made.append(text))
        for clip in (dog, rain):
            audio.name_question(clip, "world")
    assert made[0] == made[1] and len(made[0]) > 5


def test_half_a_character_is_refused_in_a_prompt_and_counted_in_a_set(tiny):
    model = tiny("llama")
    assert half_characters("a\ud800") and not half_characters("a👍")
    with pytest.raises(SemhubError, match=r"Prompt 1, 'a\\ud800', holds half a character; whole ones would do"):
        model.encode(["a", "a\ud800"])
    items = Items(LensItem(str(k), text, {}, "c") for k, text in enumerate(["a cat", "a\udc00", "x" * 999]))
    kept = core.readable(model, items, lambda item: item.prompt)
    assert [item.id for item in kept] == ["0"] and kept.dropped == {core.NOT_TAKEN: 1, core.TOO_LONG: 1}


def test_a_prompt_with_a_token_that_the_model_does_not_know_is_left_out_and_counted():
    """In a set, and in running text of which the lines are no items."""
    model = wrap(make_module("llama", vocab_size=300), make_tokenizer("byte"), model_id="few")
    texts = ["xyz", "three plus five equals eight", "zyx"]
    unknown = [max(model.tokenizer(text).input_ids) >= 300 for text in texts]
    assert unknown == [False, True, False]
    items = Items(LensItem(text, text, {}, "c") for text in texts)
    kept = core.readable(model, items, lambda item: item.prompt)
    assert [item.id for item in kept] == ["xyz", "zyx"] and kept.dropped == {core.NOT_TAKEN: 1}
    assert "has token" in kept.first[0] and "knows 300" in kept.first[0]
    some = TypeTexts("english", tuple(texts), tuple(texts))
    assert [line.prompt for line in layers.lines(model, some)] == ["xyz", "zyx"]
    assert tuned.cut(model, texts) == tuned.cut(model, texts[::2]) != []
    assert [bool(form.ids) for form in word_forms(model, ["xyz", "three plus"])] == [True, False]
    pairs = [Pair(f"{k}{b}", "x" * k + "z", "y" * k + b, "g", str(k)) for b in ("z", "three") for k in range(9)]
    for some, n in ((pairs, 9), (pairs[6:], 0)):  # three are too few
        _, [claim, *_] = core.run(alike.Alike(), model, some, series="s", twins=())
        assert claim.dropped == {core.NOT_TAKEN: 9} and claim.n == n


@pytest.mark.parametrize(
    ("config", "takes"),
    [
        (lambda: tf.MptConfig(d_model=32, n_heads=4, n_layers=2, max_seq_len=16, vocab_size=410), 16),
        (lambda: tf.BloomConfig(hidden_size=32, n_head=4, n_layer=2, vocab_size=410), None),
        (lambda: tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=16, vocab_size=410), 16),
    ],
)
def test_the_context_is_known_under_every_name(config, takes):
    model = wrap(tf.AutoModelForCausalLM.from_config(config()).eval(), make_tokenizer("byte"), model_id="x")
    assert model.max_length == takes
    text = "3" * 16
    assert hidden_states(model, [text]).hidden.isfinite().all()
    if takes:
        with pytest.raises(TooLong, match="17 tokens; x takes at most 16"):
            model.encode(["3" * 17])
        model.max_length = None  # of a family that does not state it
        if not isinstance(model.config, tf.MptConfig):
            with pytest.raises(TooLong, match=r"x cannot be run on 17 tokens \(.*\); a shorter prompt would do"):
                hidden_states(model, ["3" * 17])


def test_a_model_that_asks_for_more_than_tokens_is_no_decoder():
    sizes = {name: SIZES[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")}
    sizes |= {"num_hidden_layers": 2, "is_decoder": True}
    for module in (
        tf.XmodForCausalLM(tf.XmodConfig(**sizes, languages=["en", "de"])),
        tf.RobertaForCausalLM(tf.RobertaConfig(**sizes, pad_token_id=None)),
    ):
        with pytest.raises(SemhubError, match="cannot be run on plain tokens .*; a decoder-only"):
            wrap(module.eval(), make_tokenizer("byte"), model_id="odd")


def test_a_question_that_does_not_fit_is_no_end_of_the_chapter(own, tmp_path):
    """Whether a model can do a task is seen on the questions that it takes; of none, that is what is said."""
    model = own("llama")
    items = [LensItem(str(n), "3" * n, {"own": ("7",)}, f"c{n}") for n in (2, 3, 99, 100)]
    asked = Chapter(Run("x", model, {"seed": 0}, tmp_path), model)
    known = asked.knows(words.task_table, {"a": items, "b": items[2:]}, "count in {name}")
    assert len(known.table) == 2 and "count in a: it is right on" in known["a"]
    assert known["b"] == "there is no item on which to see whether the model can count in b."


# Sounds


@pytest.mark.parametrize(
    ("rate", "n", "said"),
    [
        (0, 800, "of 0 samples a second"),
        (-8000, 800, "of -8000 samples"),
        (10**9, 800, "10 to 1000000 would do"),
        (8000, 1, "lasts 0.000125 s; a longer one would do"),
    ],
)
@pytest.mark.parametrize("name", LISTENING)
def test_sounds_that_will_not_do(media, name, rate, n, said):
    """A sound that is too short is blamed on itself, not on the checkpoint; some models have a place even for it."""
    model, sound = media(name), Sound(np.zeros(n, np.float32), rate)
    try:
        [read] = model.encode([Input("a", sounds=(sound,))])
    except SemhubError as error:
        assert re.search(said, str(error))
    else:
        assert n == 1 and read.frames


# Chapters


def notebook_at(path, *cells):
    made = [nbformat.v4.new_markdown_cell(c[2:]) if c.startswith("# ") else nbformat.v4.new_code_cell(c) for c in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path.with_suffix(".ipynb"))
    text = "# ---\n# jupyter: {}\n# ---\n"
    for cell in cells:
        text += f"\n# %% [markdown]\n{cell}\n" if cell.startswith("# ") else f"\n# %%\n{cell}\n"
    path.with_suffix(".py").write_text(text)
    return path.with_suffix(".py")


def test_a_notebook_that_is_older_than_its_text_is_not_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: notebooks/01_first\n")
    text = notebook_at(tmp_path / "notebooks" / "01_first", "# Title", "x = 1", "x += 1\n\nx")
    monkeypatch.chdir(tmp_path)
    ran = []
    monkeypatch.setattr(book, "run", lambda jobs, **options: ran.append(jobs) or [book.Outcome(jobs[0], 0.0)])
    assert cli.main(["run", "first"]) == 0
    edits = ("x += 1", "x += 2"), ("# Title", "# Another"), ("# %%\nx = 1\n", ""), ("x = 1", "x = 1\n\n# %%\ny = 2")
    for old, new in edits:
        whole = text.read_text()
        text.write_text(whole.replace(old, new))
        assert cli.main(["run", "first"]) == 2
        said = capsys.readouterr().err
        assert "01_first.py was changed and 01_first.ipynb, which runs, was not; `jupytext" in said
        assert said.count("\n") == 1
        text.write_text(whole)
    text.unlink()  # an installed package has notebooks alone
    assert cli.main(["run", "first"]) == 0 and len(ran) == 2


@pytest.mark.parametrize("text", ["null", "[1]", "3", "{}", "[" * 100_000, None])
def test_a_record_that_is_damaged_is_of_no_run_that_is_done(tmp_path, text):
    """Nor is a pipe in its place, on which reading would wait."""
    (tmp_path / "a.run.json").write_text(text) if text else os.mkfifo(tmp_path / "a.run.json")
    assert not book.is_done(SimpleNamespace(record=tmp_path / "a.run.json"))


def test_every_chapter_is_as_its_text_says():
    for chapter in book.chapters(book.find_book()):
        book.need_current(chapter)


@pytest.mark.parametrize("name", LEAST)
def test_fewer_items_than_a_chapter_needs_are_refused_at_its_start(name, monkeypatch):
    """Before a model is loaded."""
    monkeypatch.setattr("semhub_utils.chapter.load_model", lambda *args, **named: pytest.fail("a model was loaded"))
    given = {"model_id": "organism:hub", "n_items": LEAST[name] - 1, "seed": 0}
    said = f"n_items is {LEAST[name] - 1}; from {LEAST[name]} on would do for the chapter {name}"
    with pytest.raises(SemhubError, match=said):
        begin(name, given)


def test_a_kernel_that_is_asked_to_end_is_not_interrupted_before(monkeypatch):
    sent = []
    monkeypatch.setattr(book.os, "killpg", lambda pid, signum: sent.append(signum))
    for ending in (False, True):
        kernel = SimpleNamespace(process=SimpleNamespace(pid=1), parent=SimpleNamespace(shutting_down=ending))
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.run(book.Copied.send_signal(kernel, signum))
    assert sent == [signal.SIGINT, signal.SIGTERM, signal.SIGTERM]


# The command


BROKEN = ZeroDivisionError("a number. And more\nlines"), OSError(28, "No space left on device", "/x")


@pytest.mark.parametrize("error", BROKEN)
def test_what_breaks_is_one_sentence_and_the_traceback_is_kept_for_debug(monkeypatch, capsys, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(loading, "load_model", broken)
    assert cli.main(["check", "x"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device: /x" in said or "ZeroDivisionError: a number; --debug" in said
    assert cli.main(["check", "x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reason_is_one_sentence():
    assert reason(ValueError("First part of it. Second.\nmore")) == "First part of it"
    assert reason(ValueError("e.g. a.b.c is 3.5.")) == "e.g. a.b.c is 3.5"
    assert reason(KeyError()) == "KeyError" and len(reason(ValueError("x" * 999))) == 300


def test_what_every_chapter_ends_with_is_said_once(capsys):
    """A model that is nowhere ends all thirteen."""
    job = SimpleNamespace(title="x")
    outcomes = [book.Outcome(job, 0.0, error=f"No model.\nThe notebook as far as it got: {k}", code=2) for k in "ab"]
    assert cli._status([*outcomes, book.Outcome(job, 0.0, error="Else.", code=1)]) == 2
    told = ["No model.", *(f"The notebook as far as it got: {k}" for k in "ab"), "Else."]
    assert capsys.readouterr().err.splitlines() == told


def test_a_terminal_that_is_gone_or_knows_few_signs_is_no_fault(monkeypatch, capsys):
    def closed(*args, **named):
        print("\u2714 a")
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(loading, "load_model", closed)
    told = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", told)  # which is put back afterwards
    assert cli.main(["check", "x"]) == 141
    assert told.buffer.getvalue() == b"? a\n" and capsys.readouterr().err == ""


def test_where_a_lens_cannot_be_written_is_said_before_it_is_trained(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuned, "tune", lambda *args, **named: pytest.fail("trained"))
    (tmp_path / "lines.txt").write_text("three plus five\n" * 99)
    lines = str(tmp_path / "lines.txt")
    assert cli.main(["tune", str(folder), "--text", lines, "--out", lines]) == 2
    assert capsys.readouterr().err.endswith("lines.txt cannot be written (File exists); another folder would do.\n")


# Results


def test_claims_that_cannot_be_read_cost_no_other_chapter(tmp_path):
    run, claims = finished(tmp_path, Model(), "arithmetic")
    (run.folder / "code.claims.json").write_text("{")
    run.finish()
    assert json.loads((run.folder / "rows.json").read_text())["chapters"] == ["arithmetic"]
    for read in (lambda: results.load_claims(tmp_path), lambda: onfile.read(run.folder)):
        with pytest.raises(SemhubError, match=r"code.claims.json cannot be read \(.*\); `semhub run` writes it anew"):
            read()


def test_results_on_file_that_are_damaged_are_not_written_over(tmp_path):
    run, _ = finished(tmp_path / "runs", Model(), "arithmetic")
    folder = onfile.record(run.folder, tmp_path / "file")
    (folder / onfile.CLAIMS).write_bytes(whole := (folder / onfile.CLAIMS).read_bytes()[:400])
    with pytest.raises(onfile.Damaged, match="cannot be read"):
        onfile.record(run.folder, tmp_path / "file")
    assert (folder / onfile.CLAIMS).read_bytes() == whole and (folder / onfile.TABLES).is_file()
    held, [refused] = onfile.read_all([tmp_path / "file", tmp_path / "runs"])
    assert [one.name for one in held] == ["organism:hub"] and "cannot be read" in refused


# Names that lead elsewhere


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/hostname", "..", "", None, 3, "a\0b", "./../x", "x" * 999])
def test_no_name_in_a_data_file_leads_out_of_its_folder(tmp_path, name):
    assert below(tmp_path, name) is None
    assert below(tmp_path, "a/../b.wav") == tmp_path / "b.wav" and below(tmp_path, "b..wav") == tmp_path / "b..wav"


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def test_hostile_names_and_texts_are_shown_as_text():
    """In tables for the reader, data tables, verdicts, notes and charts."""
    table = pd.DataFrame({"series": [HOSTILE], HOSTILE: ["a"], "value": [1.0]})
    chart = alt.Chart(table, title=HOSTILE, usermeta={"title": HOSTILE, "notes": HOSTILE}, description=HOSTILE)
    chart = chart.mark_point().encode(x="value", color="series", tooltip="series")
    pages = [
        listing(table).to_html(),
        listing([[HOSTILE]], [HOSTILE]).to_html(),
        finding.data_table(table),
        markup.note(HOSTILE).html,
        finding.show(chart, table, HOSTILE).html,
    ]
    for page in pages:
        assert "alert(1)" in page and "<script>alert" not in page and "<img" not in page


def test_public_sentences_can_be_continued_for_a_model_that_knows_no_words_of_the_papers():
    """In every language that the sample has, the world's words for "and"; French was missing, a raw KeyError."""
    tokenizer = AutoTokenizer.from_pretrained(organism_path("hub"))
    known = languages.known_continuation(tokenizer)
    assert known is languages.WORLD_CONTINUATION
    read = languages.parallel_sentences(8, seed=0, data_dir=SAMPLES)
    assert {"french", "english"} <= {name for sentence in read for name in sentence.texts}
    for sentence in read:
        for text, end in zip(languages.continued(sentence, known), sentence.texts, strict=True):
            assert text.endswith(known[end])
