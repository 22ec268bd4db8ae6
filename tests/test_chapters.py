"""The chapters as a reader gets them: run unchanged on a model they have never seen, and what every page must hold."""

import ast
import json
import re

import jupytext
import nbformat
import pytest
import torch
import transformers as tf
from architectures import make_media_module
from launch import chapters
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from semhub_utils import cli
from semhub_utils.chapter import listing, meaning, together
from semhub_utils.identity import organism_path
from semhub_utils.markup import Html
from semhub_utils.organism.world import number_word
from semhub_utils.results import COLUMNS, KEY, load_results
from semhub_utils.spokes import facts
from semhub_utils.verdicts import EXPLAINED, HOLDS, INCONCLUSIVE, NOT, RULES, UNTESTABLE

CHARTS = ("curves", "dose", "stacked", "bars", "heatmap", "trajectories", "overlay")
TITLE = re.compile(r'^    "([^"]+\?)(?: \([^")]*\))?",$', re.M)  # of a figure, without which items, in brackets
KNOWS_NOTHING = "the second model is random"


def tokenizer_of(texts, vocab_size):
    """Byte-level BPE, as GPT-2 has it, digits apart."""
    tokenizer = Tokenizer(models.BPE())
    digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", bos_token="<end>")


def saved(folder, kind, config, *parts):
    """The folder of a random model that knows nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = kind(config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
    for part in (module, *parts):
        part.save_pretrained(folder)
    return folder


def save_gpt2(folder, tokenizer, context=96):
    size = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": context}
    config = tf.GPT2Config(vocab_size=len(tokenizer) + 7, bos_token_id=0, eos_token_id=0, **size)
    return saved(folder, tf.GPT2LMHeadModel, config, tokenizer)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Its tokenizer knows the number words and the words of the world as whole tokens."""
    words = [f"{space}{number_word(n)}" for n in range(20) for space in ("", " ")] + [" plus", " times", " equals to"]
    for name in ("spanish", "digits"):
        words += [t for p in facts.prompts(name, 100) for t in (p.prompt, " " + p.answer, " " + p.english_answer)]
    return save_gpt2(tmp_path_factory.mktemp("models") / "rich", tokenizer_of(words * 2, 1500))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """It takes pictures of another size through another encoder, and reads the words of the world; it knows nothing."""
    processor = tf.AutoProcessor.from_pretrained(organism_path("hub-sees"))
    vision_config = tf.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=72, patch_size=18
    )
    processor.patch_size = 18
    text_config = tf.Qwen2Config(
        vocab_size=len(processor.tokenizer) + 5, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    config = tf.LlavaConfig(vision_config=vision_config, text_config=text_config, image_token_index=image)
    folder = tmp_path_factory.mktemp("models") / "seeing"
    return saved(folder, tf.LlavaForConditionalGeneration, config, processor)


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """Its tokenizer has hardly a word: no number word is one token."""
    return save_gpt2(tmp_path_factory.mktemp("models") / "poor", tokenizer_of(["8=3+5"], 260))


def run(chapter, folder, out, n_items, *settings, measured=frozenset(), n_layers=4):
    """Through the command line, on generated items if nothing else is asked: claims by name, the table, which holds the
    experiments `measured`, and the page; reasons are whole sentences."""
    settings = settings if any("items=" in s or "data_dir=" in s for s in settings) else ("items=generated", *settings)
    given = [part for setting in (f"n_items={n_items}", *settings) for part in ("--set", setting)]
    status = cli.main(["run", chapter, "--model", str(folder), *given, "--out", str(out)])
    logs = [path.read_text("utf-8") for path in out.rglob("*.log")]
    assert status == 0, logs
    [path] = out.glob(f"results/*/*/{chapter}.claims.json")
    claims = {claim["id"].split("/", 1)[1]: claim for claim in json.loads(path.read_text("utf-8"))["claims"]}
    [notebook] = out.glob(f"*/*/*{chapter}.ipynb")
    for name, claim in claims.items():
        why = claim["reason"]
        assert not why[0].islower() and why.endswith(".") and "nan" not in why.lower(), (name, why)
    table = load_results(path.parents[1], chapter=chapter)
    check_table(table, measured, n_layers)
    return claims, table, page_of(nbformat.read(notebook, 4))


def check_table(table, experiments, n_layers):
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert experiments <= set(table.experiment)
    same = table[table.duplicated([name for name in KEY if name in table], keep=False)]
    assert same.empty, f"no column tells apart rows of {set(same.experiment)}"
    inside = table.dropna(subset=["low", "high", "value"])
    assert ((inside.low <= inside.value + 1e-9) & (inside.value <= inside.high + 1e-9)).all()
    assert table.p.dropna().between(0, 1).all()
    known = table.dropna(subset=["layer", "depth"])
    assert (known.depth * n_layers - known.layer.astype(float)).abs().max() < 1e-9


def page_of(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    pages = [str(output.get("data", output.get("text"))) for output in outputs]
    assert sum("vega" in page for page in pages) >= 4  # the charts are there
    return " ".join(pages)


def test_arithmetic_runs_unchanged_on_another_model(rich, tmp_path):
    measured = {"similarity", "retrieval", "neighbours", "cka", "relations", "lens-probability", "lens-first",
                "lens-entropy", "trajectory-path", "trajectory-word", "steering-choice", "steering-dose", "task-digits",
                "patch", "patch-first"}  # fmt: skip
    claims, table, page = run("arithmetic", rich, tmp_path, 60, measured=measured)
    assert set(claims) == {
        "similarity/digits", "lens-meaning/digits", "lens-lead/digits", "lens-end/digits", "trajectory/digits",
        "steering/digits", "patch/digits", "patch-answer/digits",
    }  # fmt: skip
    for name, claim in claims.items():
        if name == "similarity/digits":  # it asks for no task
            assert claim["verdict"] != HOLDS, (claim["reason"], KNOWS_NOTHING)
        else:
            assert claim["verdict"] == UNTESTABLE, (name, claim["reason"])
    assert "cannot complete r=o+" in claims["lens-meaning/digits"]["reason"]
    assert claims["lens-meaning/digits"]["n"] + sum(claims["lens-meaning/digits"]["dropped"].values()) == 60
    assert claims["lens-meaning/digits"]["n"] > 30
    words = table[(table.experiment == "lens-probability") & (table.series == "word")]
    assert set(words.reading) == {"normed", "raw", "neighbours"} and words.value.between(0, 1).all()
    assert "cannot be tested here" in page
    assert page.count("&quot;: ") == 4, "the answer has more clauses than a reader follows"
    assert "Untested, it says neither yes nor no." in page


def test_arithmetic_without_a_word_to_read_says_so(poor, tmp_path):
    """Nothing to follow with the lens and no plane: a verdict, not an error."""
    claims, table, _ = run("arithmetic", poor, tmp_path, 40)
    assert HOLDS not in {c["verdict"] for c in claims.values()}
    lens = claims["lens-meaning/digits"]
    assert lens["verdict"] == UNTESTABLE and lens["n"] == 0 and sum(lens["dropped"].values()) == 40
    assert table[table.experiment == "lens-probability"].empty


@pytest.mark.parametrize("chapter", ["hypothesis", "instruments"])
def test_the_first_chapters_run_unchanged_on_another_model(chapter, rich, tmp_path):
    measured = {"hypothesis": {"layers-type", "layers-hub", "similarity", "retrieval"},
                "instruments": {"norm-trap", "padding-trap", "punctuation-trap", "similarity"}}[chapter]  # fmt: skip
    claims, _, page = run(chapter, rich, tmp_path, 30, "items=auto", measured=measured)
    assert {claim["items"] for claim in claims.values()} <= {"a sample of NTREX-128", "CLDR", "made by rule"}
    assert "Items: " in page and "made-up world" not in page
    for name, claim in claims.items():
        assert claim["verdict"] in RULES
        if name.split("/")[0] in ("similarity", "layers-hub"):
            assert claim["verdict"] != HOLDS, (name, claim["reason"], KNOWS_NOTHING)


def test_vision_runs_unchanged_on_another_model(seeing, tmp_path):
    measured = {"similarity", "colours", "nouns", "nouns-probability", "segments", "answers", "recolour"}
    claims, _, page = run("vision", seeing, tmp_path, 24, measured=measured)
    assert {name.split("/")[0] for name in claims} == {
        "similarity", "colours", "nouns", "segments", "answers", "patch", "patch-answer", "recolour",
    }  # fmt: skip
    for name, claim in claims.items():
        assert claim["verdict"] in {*RULES} - {HOLDS}, (name, claim["reason"], KNOWS_NOTHING)
        if name.split("/")[0] in ("patch", "patch-answer") or name in ("answers/spanish", "answers/chinese"):
            assert "cannot name the colour" in claim["reason"]
    answers = [claim for name, claim in claims.items() if name.startswith("answers/")]
    assert all(claim["n_units"] <= 11 for claim in answers) and any(claim["n"] > 11 for claim in answers)
    assert "data:image/png" in page


def test_hearing_runs_unchanged_on_another_model(tmp_path):
    """Three layers, and a tokenizer that knows hardly an animal or colour."""
    for part in make_media_module("qwen2-audio"):
        part.save_pretrained(tmp_path / "model")
    claims, _, _ = run("audio", tmp_path / "model", tmp_path, 56, n_layers=3)
    found = {claim["verdict"] for claim in claims.values()}
    assert UNTESTABLE in found <= {*RULES} - {HOLDS}


@pytest.mark.parametrize(("chapter", "sense", "would_do"), [("vision", "image", "sees"), ("audio", "sound", "hears")])
def test_a_chapter_of_the_senses_refuses_a_model_without_them(chapter, sense, would_do, rich, tmp_path, capsys):
    assert cli.main(["run", chapter, "--model", str(rich), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"takes {sense} and text, and" in said and f"takes text; organism:hub-{would_do} would do" in said
    assert "Traceback" not in said


# ---- the pages ----


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", chapters(), ids=lambda p: p.stem)
class TestPage:
    def test_opens_with_a_question_and_closes_with_its_answer(self, path):
        cells = jupytext.read(path).cells
        head, last = cells[0].source, [c.source for c in cells if c.cell_type == "markdown"][-2:]
        question = re.search(r"^\*\*(.+\?)\*\*$", head, re.MULTILINE)
        assert head.startswith("# ") and question
        assert "## What you learned" in last[0] and "The question was" in last[0]
        assert last[1].count("\n- ") >= 2 and "**Try it.**" in last[1]
        asked = set(re.findall(r"\w{4,}", question[1].lower()))
        assert asked & set(re.findall(r"\w{4,}", last[0].lower())), "the closing answers another question"

    def test_tells_the_papers_claim_apart_and_what_is_needed(self, path):
        head = jupytext.read(path).cells[0].source
        assert ":::{admonition} The paper's claim" in head and ":class: paper-claim" in head
        assert "{cite:p}`wu2025semantic`" in head
        assert re.search(r"You should know .*Time to\s+read: \d+ minutes\.", head, re.DOTALL)

    def test_every_figure_has_a_question_an_alt_text_and_its_table(self, path):
        figures = 0
        for cell in code_cells(jupytext.read(path)):
            for node in ast.walk(ast.parse(cell.source)):
                if not isinstance(node, ast.Call) or getattr(node.func, "attr", "") not in CHARTS:
                    continue
                given = {k.arg: k.value for k in node.keywords}
                if "alt" not in given:  # which no chart is without
                    continue
                title = given.get("title") or node.args[node.func.attr not in ("trajectories", "overlay")]
                title = re.sub(r"\s*\([^)]*\)$", "", ast.literal_eval(title))  # which items, in brackets
                assert title.endswith("?"), ast.unparse(node)
                alt = ast.literal_eval(given["alt"])
                assert len(alt.split()) >= 6 and alt.endswith(".")
                figures += 1
        assert figures >= 3

    def test_every_claim_is_judged_and_every_number_glued(self, path):
        notebook = jupytext.read(path)
        source = "\n".join(c.source for c in code_cells(notebook))
        assert re.search(r"\.claims?\(", source) and "\nchapter.finish(\n" in source
        prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        used, made = set(re.findall(r"\{glue\}`(\w+)`", prose)), re.findall(r'glue\(f?"([\w{}]+)"', source)
        made = [re.sub(r"\{\w+\}", r"\\w+", name) for name in made]  # a loop fills in a part
        assert all(any(re.fullmatch(name, one) for name in made) for one in used)
        assert all(any(re.fullmatch(name, one) for one in used) for name in made)
        assert not re.search(r"\b\d+(\.\d+)? ?%(?! (bootstrap )?interval)", prose), "a typed-in share"

    def test_no_cell_shows_python(self, path):
        shown = [ast.parse(cell.source).body[-1] for cell in code_cells(jupytext.read(path))]
        raw = ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.DictComp, ast.Attribute
        assert not [ast.unparse(of) for of in shown if isinstance(of, ast.Expr) and isinstance(of.value, raw)]

    def test_what_is_drawn_or_judged_is_shown(self, path):
        """What a cell does not end with is not on the page."""
        for cell in code_cells(jupytext.read(path)):
            for of in ast.parse(cell.source).body[:-1]:
                name = getattr(getattr(of, "value", None), "func", None)
                assert not isinstance(of, ast.Expr) or getattr(name, "attr", "") not in (*CHARTS, "claims"), cell.source

    def test_a_folded_figure_is_named_on_its_fold_and_never_the_last(self, path):
        """The last chart of a page is one that a reader comes to."""
        titles = [(cell, title) for cell in code_cells(jupytext.read(path)) for title in TITLE.findall(cell.source)]
        folded = [(cell, title) for cell, title in titles if "hide-output" in cell.metadata.get("tags", [])]
        assert all(cell.metadata["mystnb"]["code_prompt_show"] == title for cell, title in folded)
        assert len(titles) - len(folded) >= 3 and titles[-1] not in folded

    def test_what_a_verdict_means_is_told_of_claims_that_are_made(self, path):
        notebook = jupytext.read(path)
        told = {*re.findall(r"\{glue\}`why-([^`]+)`", "\n".join(c.source for c in notebook.cells))}
        source = "\n".join(c.source for c in code_cells(notebook))
        made = {*re.findall(r'\.claims\(\s*"([^"]+)"', source)}
        assert told <= made | {name.rpartition("/")[0] for name in made} | {"similarity/others"}


def test_a_verdict_is_put_into_words():
    def of(series, verdict, by="", least=0.1):
        return {"id": f"chapter/claim/{series}", "verdict": verdict, "by": by, "least": least}

    assert meaning([of("spanish", NOT)]) == "An effect of 0.1 would have been seen: there is none, or a smaller one."
    assert meaning([of("spanish", NOT) | {"high": -0.2}]) == "The effect is the other way round."
    several = meaning([of("spanish", HOLDS), of("german", HOLDS), of("code", EXPLAINED, "islands")])
    assert several.startswith("Spanish, German: nothing that it was held against does as well. Code: a model whose")
    assert meaning([of("code", EXPLAINED, "other word")]) == "Its control, other word, does as well."
    assert meaning([of("code", INCONCLUSIVE, "last layer")]) == "It is above last layer, but not surely."
    assert all(meaning([of("code", verdict, "islands" * (verdict == EXPLAINED))]).endswith(".") for verdict in RULES)


def test_a_listing_says_yes_and_no():
    shown = listing([("one", True, 1), ("two", False, 0)], ["name", "passed", "n"]).to_html()
    assert "yes" in shown and "no" in shown and "True" not in shown and ">0<" in shown


def test_claims_that_cannot_be_tested_share_a_fold():
    tested, bare = Html("<p>1</p>", "Holds: this (1)"), Html("<p>2</p>", "Cannot be tested here: a (–)\n" * 2)
    assert together(tested).html == "<p>1</p>" and "<details" not in together(tested).html
    shown = together(bare, tested, bare)
    assert shown.html.startswith("<p>1</p><details><summary>4 claims that cannot be tested here")
    assert shown.html.count("<p>2</p>") == 2 and shown.text.count("\n") >= 4


def test_a_wrong_parameter_is_one_sentence(rich, tmp_path, capsys):
    status = cli.main(["run", "arithmetic", "--model", str(rich), "--set", "n_items=5000", "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert status == 2 and "n_items is 5000, and 1123 arithmetic items exist" in said and "Traceback" not in said
