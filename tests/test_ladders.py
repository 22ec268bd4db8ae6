"""The forms in which tasks are put to models, and which of them is taken: by hand, and where the truth is known."""

import re
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from planted import organism as load
from test_patching import HUB, OWN

from semhub_utils.chapter import WRONG, Chapter
from semhub_utils.experiments import core, words
from semhub_utils.experiments.patching import MOST, interchange
from semhub_utils.results import Run, check_parameters
from semhub_utils.spokes import arithmetic, facts, items, semantics
from semhub_utils.spokes.items import PatchItem
from semhub_utils.steering import Edit, begins_inside, patched_states, states_under


def chapter_of(name, folder):
    model, given = load(name), {"model_id": f"organism:{name}", "n_items": 40, "seed": 0, "results_dir": str(folder)}
    return Chapter(Run("arithmetic", model, check_parameters(**given), folder), model)


FORMS = [f"task-digits, form {k}" for k in range(1, 5)]


def says(model, prompt):
    """What the model says next, by plain transformers, one prompt at a time in float64."""
    module = model.module.double()
    try:
        ids = torch.tensor([model.tokenizer(prompt)["input_ids"]])
        with torch.inference_mode():
            return model.tokenizer.decode(module(ids).logits[0, -1].argmax()).strip()
    finally:
        module.float()


# ---- what is asked ----


@pytest.mark.parametrize("top", [100, 31])
def test_every_form_of_the_arithmetic_asks_true_calculations_apart_from_its_examples_and_trial(top):
    drawn = arithmetic.items(60, 3, top)
    forms = arithmetic.forms(drawn, seed=3, max_result=top)
    assert [form.name for form in forms] == [name for name, *_ in arithmetic.LADDER]
    for form, (_, forward, n_examples, least, below) in zip(forms, arithmetic.LADDER, strict=True):
        shown = {e for some in form.wording.examples.values() for e in some}
        tried = {item.id for item in form.trial}
        asked = {item.id for item in form.asked}
        assert tried and not tried & asked and not {c.digits for c in shown} & (tried | asked)
        assert len(asked) == len(form.asked) == len(form.of) and (forward or form.of == drawn)
        for item, c in zip(form.asked, form.of, strict=True):
            *worked, question = item.prompt.split("\n")
            assert len(worked) == n_examples and c.digits == item.id
            [answer], [word] = item.targets["digit"], item.targets["word"]
            for line in (*worked, question + answer):
                left, right = line.split("=")
                assert eval(left) == eval(right) < min(top, 100) and ("*" in line) == (c.operator == "*")
                if forward:
                    a, b = map(int, left.split("+"))
                    assert least <= b < 10 and a % 10 + b < 10 and int(right) < below
            spoken = form.wording.text(c, words=True).split("\n")
            assert len(spoken) == len(worked) + 1 and word not in ("", *item.wrong["word"])
            assert all(digit not in spoken[-1] for digit in "0123456789")
        assert len({item.cluster for item in form.asked}) >= (60 if top == 100 and below == 100 and forward else 10)
    assert forms[0].asked == arithmetic.lens_items(drawn)


def test_the_intervention_asks_each_form_as_the_paper_asks_its_own():
    [*_, sums, _] = arithmetic.forms(arithmetic.items(250, 0), seed=0)
    steered = arithmetic.steering_items(sums.of, sums.wording)
    assert len(steered) > 100
    for item in steered:
        left, right = item.prompt.split("\n")[-1].split("=")
        a, b = map(int, left.split("+"))
        assert int(right + item.original) == a + b and int(right + item.expected) == a + b + 1
        assert item.toward.split("\n")[:-1] == item.away.split("\n")[:-1] and item.toward != item.away
    [one] = arithmetic.steering_items([arithmetic.Calculation("+", 43, 5)], arithmetic.Wording(True))
    assert (one.prompt, one.original, one.expected) == ("43+5=4", "8", "9")
    assert one.toward == "forty four plus five equals to forty" and one.away == "forty three plus five equals to forty"
    for twin in arithmetic.twins(sums.of, sums.wording):
        assert twin.prompt.count("\n") == twin.hub_prompt.count("\n") == 3
    assert arithmetic.patch_items(sums.of, sums.wording)[0].other is None  # there is one operator


def test_forms_of_sentences_and_of_questions_are_apart_too():
    known = semantics.meanings(seed=0)
    ladder = semantics.forms(known, 40, seed=0, taught=False)
    by = {m.sentence: m for m in known}
    for form, (name, shown, plain) in zip(ladder, semantics.LADDER, strict=True):
        assert form.name == name and len(form.asked) == len(form.of) == 40
        sentences = {}
        for what in ("trial", "asked"):
            for item in getattr(form, what):
                *before, sentence = item.prompt.removesuffix("\n").split("\n")
                assert before.count("") == shown and item.targets["own"] == (by[sentence].verb,)
                assert not plain or re.search(rf"\b{by[sentence].verb}", sentence)
                sentences.setdefault(what, set()).add(sentence)
                sentences["shown"] = {line for line in before if line in by}
        assert len(sentences["shown"]) == shown and sum(map(len, sentences.values())) == len(
            set().union(*sentences.values())
        )
    asked = facts.twins(facts.prompts("code", 180))
    plain, behind = items.forms(asked, seed=0, taught=False)
    assert [i.id for i in plain.asked] == [i.id for i in behind.asked] and plain.trial
    assert not {i.id for i in plain.asked} & {i.id for i in plain.trial}
    for twin, item in zip(behind.of, behind.asked, strict=True):
        assert item.prompt == twin.hub_prompt and item.prompt.count("\n") == twin.prompt.count("\n") == items.EXAMPLES
        for line in zip(twin.prompt.split("\n")[:-1], twin.hub_prompt.split("\n")[:-1], strict=True):
            [shown] = [t for t in asked if (f"{t.prompt} {t.answer}", f"{t.hub_prompt} {t.hub_answer}") == line]
            assert shown.relation == twin.relation and shown.id not in {i.id for i in behind.asked}


# ---- which is taken ----


def test_a_model_that_was_taught_the_papers_form_is_asked_that_alone_and_nothing_changes(tmp_path):
    """All the book's models: forms, rows of the task, precondition, numbers of claims."""
    drawn = arithmetic.items(40, 0, 31)
    for name in ("hub", "islands"):
        chapter, task = chapter_of(name, tmp_path / name), "complete r=o+"
        assert chapter.model.card
        forms = arithmetic.forms(drawn, seed=0, max_result=31, taught=True)
        climbed = chapter.climb(forms, task, own="digit", series="digits")
        before = chapter.knows(words.task_table, arithmetic.lens_items(drawn), task, own="digit", series="digits")
        assert climbed.of == drawn and climbed.needs == before["digits"] and climbed.share == before.share
        right = int(before.table.value.sum())
        assert climbed.given["form"] == f"as in the paper; all 40 items, of which the model gets {right} right"
        assert not +climbed.given["dropped"] and set(chapter.results.table.experiment) == {"task-digits"}
    lens, prompts, more = words.Lens("word", "digit"), arithmetic.lens_items(drawn), {"twins": (), "brief": True}
    _, [plain, *_] = core.run(lens, load("hub"), prompts, series="digits", **more)
    _, [told, *_] = core.run(lens, load("hub"), prompts, series="digits", **more, **climbed.given)
    assert plain.to_json() == replace(told, form="").to_json() and told.form == climbed.given["form"]


def wrong(some):
    """The same questions with an answer that no model gives."""
    return [replace(item, targets=item.targets | {"digit": ("ten",)}) for item in some]


def test_the_first_form_that_a_model_does_is_taken_and_what_it_gets_wrong_is_left_out(tmp_path):
    """The model does the paper's form; the one before it is made to be beyond it, that behind it is not tried."""
    chapter = chapter_of("hub", tmp_path)
    paper, *_ = arithmetic.forms(arithmetic.items(40, 1, 31), seed=1, max_result=31)
    spoiled = [*paper.asked[:30], *wrong(paper.asked[30:])]
    forms = [
        replace(paper, name="hard", trial=wrong(paper.trial)),
        replace(paper, asked=spoiled),
        replace(paper, name="easy"),
    ]
    climbed = chapter.climb(forms, "add", own="digit", series="digits")
    right = [i.id for i in paper.asked[:30] if says(chapter.model, i.prompt) == i.targets["digit"][0]]
    assert climbed.form is forms[1] and climbed.needs is None and 20 < len(right) <= 30
    assert [c.digits for c in climbed.of] == right
    assert climbed.given["dropped"][WRONG] == 40 - len(right)
    assert climbed.given["form"] == f"as in the paper; the {len(right)} of 40 items that the model gets right"
    tried = chapter.results.table.groupby("experiment").value
    assert {name: len(some) for name, some in tried} == dict.fromkeys(FORMS[:2], len(paper.trial)) | {"task-digits": 40}
    assert tried.sum()["task-digits, form 1"] == 0
    prompts = arithmetic.lens_items(climbed.of)
    _, [e, *_] = core.run(
        words.Lens("word", "digit"), chapter.model, prompts, series="digits", twins=(), **climbed.given
    )
    assert e.n == len(right) and e.n + sum(e.dropped.values()) == 40
    entry = chapter.results.claim(e)
    assert entry["form"] == climbed.given["form"]


def test_a_model_that_does_no_form_is_shown_in_the_first_and_claims_cannot_be_tested(tmp_path):
    chapter = chapter_of("islands", tmp_path)
    forms = arithmetic.forms(arithmetic.items(40, 0, 31), seed=0, max_result=31)
    climbed = chapter.climb(forms, "add", own="digit", series="digits")
    assert climbed.form is forms[0] and climbed.of == forms[0].of
    assert (
        climbed.needs.startswith("the model cannot add") and "In 3 other forms it is right on at most" in climbed.needs
    )
    tried = chapter.results.table.groupby("experiment").value.mean()
    assert {*tried.index} == {*FORMS, "task-digits"} and tried.max() < 0.5
    forms = [replace(form, trial=()) for form in forms]
    assert "no item on which to see" in chapter.climb(forms, "take away", own="digit", series="other").needs


# ---- patches of deep models ----


def adds(block, first, hidden, *args, **kwargs):
    """A block that adds what the first one gave."""
    return block(hidden, *args, **kwargs) + first["states"][:, -hidden.shape[1] :]


def test_a_model_that_uses_an_early_block_again_is_run_whole(own):
    model, first = own("llama"), {}
    model.blocks[0].register_forward_hook(lambda block, args, out: first.update(states=out))
    assert begins_inside(model, model.encode(["8=3+"])) and model.begins == {False: True}
    layers, vectors = range(model.n_layers + 1), torch.randn(1, model.n_layers + 1, model.hidden_size)
    plain = patched_states(model, ["8=3+"], vectors, layers)
    model.blocks[2].forward = partial(adds, model.blocks[2].forward, first)
    model.begins.clear()
    assert not begins_inside(model, model.encode(["8=3+"])) and model.begins == {False: False}
    for layer in layers:
        edit = Edit((layer,), vectors[0, layer], mode="replace")
        want = states_under(model, ["8=3+"], edit)[0][-1, -1]
        found = patched_states(model, ["8=3+"], vectors, layers)[0, layer]
        torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
    assert (plain - found).abs().max() > 1e-3


def counted(own, n_layers):
    """How many states blocks make for a patch of every layer, or of MOST of them, and which these are."""
    model, made = own("llama", num_hidden_layers=n_layers), Counter()
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda part, args, out: made.update(n=out.shape[0] * out.shape[1]))
    hubs = dict(zip(OWN, HUB, strict=True))
    some = [
        PatchItem(f"{a}{b}", (f"{a}=", f"the cat {a}"), (a, hubs[a]), (f"{b}=", f"the cat {b}"), (b, hubs[b]),
                  (f"{a}+", "the dog"), a, "g", b)
        for a in OWN for b in OWN if a != b
    ]  # fmt: skip
    table, claims = interchange(model, some, series="digits", twins=())
    return made["n"], table, claims


def test_a_model_of_forty_layers_costs_little_more_than_twice_one_of_twenty(own):
    (twenty, _, few), (forty, table, claims) = (counted(own, n) for n in (20, 40))
    assert forty <= 2.2 * twenty
    for e, n in ((few[0], 20), (claims[0], 40)):
        assert len(e.layers) == MOST == len(e.values) and (e.layers[0], e.layers[-1]) == (0, n)
        assert np.ptp(np.diff(e.layers)) <= 1 and e.n_layers == n and set(e.window) <= set(e.layers)
    shown = table[table.experiment.isin(["patch-first", "patch"])]
    assert set(shown.layer) == set(claims[0].layers) and (shown.layer / 40 - shown.depth).abs().max() < 1e-9
