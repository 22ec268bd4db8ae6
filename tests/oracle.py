"""The same numbers by other means: plain transformers, one prompt at a time, float64, full tables, no batching.

Nothing here uses the package. Where the blocks of an architecture live is typed in by hand; the final norm and whatever
else follows the blocks is reached by putting a state in the place of the last block's output and running the model.
"""

import copy
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch

BLOCKS = dict.fromkeys(("gpt2", "gpt-neo", "gptj", "bloom", "falcon", "falcon-alibi"), "transformer.h")
BLOCKS |= dict.fromkeys(("opt", "opt-projected"), "model.decoder.layers")
BLOCKS |= {"gpt-neox": "gpt_neox.layers", "mpt": "transformer.blocks", "mamba": "backbone.layers"}  # or "model.layers"


def one_token_forms(tokenizer, word, context):
    """The tokens of a word without and with a space before it, where it is one token after the context."""
    before = tokenizer(context)["input_ids"]
    after = [tokenizer(context + space + word)["input_ids"] for space in ("", " ")]
    return list(dict.fromkeys(ids[-1] for ids in after if len(ids) == len(before) + 1 and ids[:-1] == before))


def curve(table, experiment, series=None, control="", **where):
    """The rows of one curve of a table of results, ordered by layer; control "": of what was measured."""
    where |= {} if series is None else {"series": series}
    chosen = table[table.experiment == experiment]
    chosen = chosen[chosen.get("control", pd.Series("", chosen.index)).fillna("") == control]
    for name, value in where.items():
        chosen = chosen[chosen[name] == value]
    return chosen.sort_values("layer").reset_index()


def values(table, experiment, series=None, control="", **where):
    return curve(table, experiment, series, control, **where).value.to_numpy(float)


class Oracle:
    def __init__(self, name, module, tokenizer):
        self.module = copy.deepcopy(module).double()
        if hasattr(self.module.config, "num_experts_per_tok"):
            self.module.set_experts_implementation("eager")  # the grouped product knows no float64
        self.tokenizer = tokenizer
        self.blocks = self.module.get_submodule(BLOCKS.get(name, "model.layers"))

    def ids(self, prompt):
        return torch.tensor([self.tokenizer(prompt)["input_ids"]])

    def changed(self, layer, change):
        """A hook, until its end: change(states [1, token, hidden]) -> states, at one layer."""

        def before(block, args, kwargs):
            if args:
                return ((change(args[0]), *args[1:]), kwargs)
            return (args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])})

        def after(block, args, output):
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        if layer == 0:
            return self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        return self.blocks[layer - 1].register_forward_hook(after)

    @torch.no_grad()
    def logits(self, ids):
        return self.module(input_ids=ids, use_cache=False).logits[0].double()

    @torch.no_grad()
    def states(self, prompt):
        """[layer, token, hidden], before the final norm."""
        found = []
        with ExitStack() as stack:
            for layer in range(len(self.blocks) + 1):
                stack.enter_context(self.changed(layer, lambda h: found.append(h[0].double().clone()) or h))
            self.logits(self.ids(prompt))
        return torch.stack(found)

    def last(self, texts):
        """The states at the last token, [item, layer, hidden]."""
        return np.stack([self.states(text)[:, -1].numpy() for text in texts])

    @torch.no_grad()
    def normed(self, state):
        """Log-probabilities over the vocabulary, had the last block given `state`."""
        with self.changed(len(self.blocks), lambda h: state.to(h.dtype).expand_as(h)):
            return self.logits(torch.tensor([[5]]))[0].log_softmax(-1)

    @torch.no_grad()
    def raw(self, state):
        """The unembedding product of the state as it is, with the bias, scale and soft-cap of the configuration."""
        config = self.module.config
        if config.model_type == "opt" and config.word_embed_proj_dim != config.hidden_size:
            state = self.module.model.decoder.project_out(state)
        if config.model_type == "minicpm3":
            state = state / (config.hidden_size / config.dim_model_base)
        logits = self.module.lm_head(state)
        if config.model_type == "cohere":
            logits = logits * config.logit_scale
        if config.model_type == "granite":
            logits = logits / config.logits_scaling
        if getattr(config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / config.final_logit_softcapping) * config.final_logit_softcapping
        return logits.log_softmax(-1)

    def read(self, states, reading):
        """Log-probabilities [layer, vocab] of one state per layer; raw is what the release reads, normed at the end."""
        plain = self.raw if reading == "raw" else self.normed
        return torch.stack([*map(plain, states[:-1]), self.normed(states[-1])])

    def edited(self, layer, vector, position, mode, strength):
        def change(h):
            h = h.clone()
            h[0, position] = h[0, position] + strength * vector if mode == "add" else vector.to(h.dtype)
            return h

        return self.changed(layer, change)

    def steered(self, prompt, layer, vector, position, mode, strength):
        """Log-probabilities after the prompt, read with the edit."""
        ids = self.ids(prompt)
        with self.edited(layer, vector, position % ids.shape[1], mode, strength):
            return self.logits(ids)[-1].log_softmax(-1)

    def continuation(self, prompt, layer, vector, position, strength, n_tokens):
        """Greedy ids; the whole sequence is read anew for every token, edited at the same position of the prompt."""
        ids = self.ids(prompt)
        position, start = position % ids.shape[1], ids.shape[1]
        for _ in range(n_tokens):
            with self.edited(layer, vector, position, "add", strength):
                ids = torch.cat([ids, self.logits(ids)[-1:].argmax(-1, keepdim=True)], dim=1)
        return ids[0, start:].tolist()


class MediaOracle(Oracle):
    """Of models that see or hear. A prompt is a text, or has `text`, `images` and `sounds`; the placeholder stands in
    front where the text has none."""

    def __init__(self, module, processor):
        self.module, self.processor, self.tokenizer = copy.deepcopy(module).double(), processor, processor.tokenizer
        self.decoder, self.head = self.module.get_decoder(), self.module.get_output_embeddings()
        self.blocks = self.decoder.layers
        self.token = getattr(processor, "image_token", None) or processor.audio_token

    def ids(self, prompt):
        """All that the model is given."""
        if isinstance(prompt, str):
            return self.tokenizer(prompt, return_tensors="pt")
        text = prompt.text if self.token in prompt.text else self.token + prompt.text
        given = {"images": list(prompt.images)} if prompt.images else {"sampling_rate": 16000}
        given |= {"audio": [sound.samples for sound in prompt.sounds]} if prompt.sounds else {}
        if "chameleon" in type(self.module).__name__.lower():
            given["return_for_text_completion"] = True
        out = self.processor(text=[text], return_tensors="pt", **given)
        return {k: v.double() if v.is_floating_point() else v for k, v in out.items()}

    def places(self, prompt):
        """The tokens that hold a picture or a sound."""
        return (self.ids(prompt)["input_ids"][0] == self.tokenizer.convert_tokens_to_ids(self.token)).nonzero()[:, 0]

    @torch.no_grad()
    def logits(self, given):
        return self.module(**given, use_cache=False).logits[0]

    @torch.no_grad()
    def after(self, prompt, layers=(), places=(), change=None):
        """Log-probabilities after a prompt; change(old [place, hidden]) -> new, at every one of `layers`."""

        def put(h):
            h = h.clone()
            h[0, places] = change(h[0, places])
            return h

        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(self.changed(layer, put))
            given = prompt if isinstance(prompt, dict) else self.ids(prompt)
            return self.logits(given)[-1].log_softmax(-1)

    @torch.no_grad()
    def read(self, states, reading="normed"):
        """Log-probabilities [layer, token, vocab] of states by layer; raw is normed at the last one."""
        normed = self.decoder.norm(states)
        return self.head(normed if reading == "normed" else torch.cat([states[:-1], normed[-1:]])).log_softmax(-1)
