// What the live page knows of words, and what it says of a reading. No page, no weights.
//
// A reading is what forward.js gives: ids and probs, [layer][token][k], and the ids of the line's tokens.

const semhubWords = (() => {
  const NAMES = { en: "English", es: "Spanish", zh: "Chinese", de: "German", code: "code", digits: "digits", logic: "logic" };
  const MODELS = {
    hub: "raised on all types of text, with lines that mix them: they can share what they know",
    islands: "raised the same way, but every type was told other facts: there is nothing to share",
    planted: "a hub built on purpose: the other types’ words were put where their English twins are",
    balanced: "a hub without a boss: as much Spanish as English, and any two types mixed",
    random: "the same machine before any training (seed 0): the control",
  };
  const UNTRAINED = "random", NOTHING = 0.05; // a layer whose likeliest word has less than this holds nothing
  const CLEAR = 0.25; // what an answer must have before it is said that a meaning came over

  // `start` is start.js: words, types (as bits in the order of `order`) and meanings, by id.
  function make(start) {
    const { words, types, meanings, order } = start;
    const has = (id, type) => (types[id] >> order.indexOf(type)) & 1;

    // Whose word it is, for a line of type `own`: its own where it can be, else English where it can be.
    const kind = (id, own) => [own, "en", "es", "zh", "de", "digits", "code", "logic"].find((type) => has(id, type)) ?? "none";

    // The type of a line, from its words: each votes for its types, less the more it has.
    function typeOf(ids) {
      const votes = Object.fromEntries(order.map((type) => [type, 0]));
      for (const id of ids) {
        const own = order.filter((type) => has(id, type));
        for (const type of own) votes[type] += 1 / own.length;
      }
      const first = ["en", "es", "zh", "de", "digits", "code", "logic"]; // where votes are even
      return first.reduce((best, type) => (votes[type] > votes[best] + 1e-9 ? type : best));
    }

    // One cell: its words, likeliest first.
    const cell = (reading, layer, at, own) => reading.ids[layer][at].map((id, k) => (
      { id, text: words[id], p: reading.probs[layer][at][k], kind: kind(id, own), meaning: meanings[id] }));

    // What stands beside an unknown word in the vocabulary: the nearest by letters that change, within a third of it.
    function near(word, many = 3) {
      const [low, most] = [word.toLowerCase(), Math.max(1, Math.ceil(word.length / 3))];
      const far = words.map((other, id) => [types[id] ? distance(low, other.toLowerCase(), most) : 99, other]);
      return far.filter(([steps]) => steps <= most).sort((a, b) => a[0] - b[0]).slice(0, many).map(([, other]) => other);
    }
    return { words, types, meanings, has, kind, typeOf, cell, near, order, id: new Map(words.map((word, id) => [word, id])) };
  }

  // Letters to put in, take out or change; stops above `most`.
  function distance(a, b, most) {
    if (Math.abs(a.length - b.length) > most) return most + 1;
    let row = Array.from({ length: b.length + 1 }, (_, k) => k);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1])));
      }
      row = next;
    }
    return row[b.length];
  }

  // --- sentences: lists of [text] and [text, type of word], so that words can be shown as such -------------------------

  const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1%" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}%`);

  // "layers 2 to 5 and 7"
  function span(layers) {
    const runs = [];
    for (const layer of layers) {
      if (runs.length && layer === runs.at(-1)[1] + 1) runs.at(-1)[1] = layer;
      else runs.push([layer, layer]);
    }
    const said = runs.flatMap(([a, b]) => (b < a + 2 ? [...new Set([a, b])] : [`${a} to ${b}`]));
    const all = said.length > 1 ? `${said.slice(0, -1).join(", ")} and ${said.at(-1)}` : said[0];
    return `${layers.length > 1 ? "layers" : "layer"} ${all}`;
  }

  // The commonest of some values.
  function commonest(values) {
    const count = new Map();
    for (const value of values) count.set(value, (count.get(value) ?? 0) + 1);
    return [...count].reduce((best, one) => (one[1] > best[1] ? one : best), [undefined, 0])[0];
  }

  // What crosses the middle at one token of a line of type `own`: the likeliest words of all layers; whether one meaning
  // is said at the end and in words of another kind before it, or else which English word comes by (`there`, its layers).
  function crossing(know, reading, at, own) {
    const L = reading.ids.length - 1, cells = reading.ids.map((_, layer) => know.cell(reading, layer, at, own));
    const tops = cells.map((cell, layer) => ({ ...cell[0], layer })), said = tops[L], middle = tops.slice(1, L);
    const same = (one) => one.meaning >= 0 && one.meaning === said.meaning;
    const abroad = middle.filter((one) => one.kind !== own && one.kind !== "none");
    const some = abroad.some(same) ? abroad.filter(same) : abroad.filter((one) => one.kind === "en");
    const other = commonest(some.map((one) => one.id)), there = abroad.filter((one) => one.id === other);
    const empty = Math.max(...tops.map((one) => one.p)) < NOTHING;
    return { L, cells, said, middle, same, there, empty, crosses: there.length > 0 && same(there[0]) };
  }
  const word = (one) => [one.text, one.kind];

  // What is seen at one token of a line of type `own`: a list of sentences, each a list of parts.
  function finding(know, reading, at, own, model) {
    const { L, cells, said, middle, same, there, empty, crosses } = crossing(know, reading, at, own);
    if (empty) {
      return [[["Nothing inside: ", "strong"], ["no layer of "], [model, "model"], [" holds any word. The likeliest at the end, "],
        word(said), [`, has ${percent(said.p)}.`]]];
    }
    const name = NAMES[own], sentences = [], [first] = middle.filter((one) => one.id === said.id);
    const leads = first ? ` leads from layer ${first.layer} on.` : ` comes up at layer ${L} alone.`;
    const where = () => [[`${span(there.map((one) => one.layer))} of `], [model, "model"], [there.length > 1 ? " read " : " reads "], word(there[0])];
    const ending = [[`; layer ${L}, the last, says `], word(said), ["."]];
    if (own === "en") {
      sentences.push([["English in, English out: ", "strong"], word(said), [`${leads} Ask the same in another type to see whether English stays inside.`]]);
    } else if (crosses) {
      const out = NAMES[said.kind] ?? "a sign";
      const place = there.length > 1 ? "in between" : "at one layer";
      sentences.push([[`${cap(name)} in, ${out} out, and ${NAMES[there[0].kind]} ${place}: `, "strong"], ...where(), ...ending]);
    } else if (there.length) {
      sentences.push([[`${cap(name)} in, and some English on the way: `, "strong"], ...where(), [", another meaning"], ...ending]);
    } else {
      sentences.push([[`${cap(name)} all the way: `, "strong"], ["no layer between the first and the last of "], [model, "model"],
        [" reads an English word here. "], word(said), [leads]]);
    }
    // the layer at which most of it stands in other words than the likeliest
    const ways = cells.slice(1, L).map((cell, k) => ({ layer: k + 1, of: byKind(cell.filter((one) => same(one) && one.p >= 0.01)) }));
    const spread = ({ of }) => sum(of.slice(1)), most = ways.reduce((best, one) => (spread(one) > spread(best) ? one : best));
    if (most.of.length > 1) {
      const list = most.of.flatMap((one, k) => [...(k ? [[", "]] : []), word(one), [` ${percent(one.p)}`]]);
      sentences.push([[`Layer ${most.layer} holds one meaning in ${most.of.length} ways: `], ...list, ["."]]);
    }
    return sentences;
  }

  // The same of several models in one sentence; `places` are {model, found}, found being a reading.
  function compared(know, places, at, own) {
    const groups = new Map();
    if (own === "en") return []; // nothing could tell English inside from English outside
    for (const { model, found } of places) {
      const { there, empty, crosses } = crossing(know, found, at, own);
      const kind = empty ? "Nothing inside" : crosses ? `${cap(NAMES[there[0].kind])} in between` : `${cap(NAMES[own])}${there.length ? ", by way of another meaning" : " all the way"}`;
      groups.set(kind, [...(groups.get(kind) ?? []), model]);
    }
    return [...groups].flatMap(([kind, models]) => [[`${kind}: `], ...models.flatMap((model, k) => [...(k ? [[", "]] : []), [model, "model"]]), [". "]]);
  }

  // The likeliest word of each kind, likeliest first.
  const byKind = (cell) => cell.filter((one, k) => cell.findIndex((other) => other.kind === one.kind) === k);
  const sum = (some) => some.reduce((total, one) => total + one.p, 0);
  const cap = (text) => text[0].toUpperCase() + text.slice(1);

  // What an edit did to the last word of a line of type `own`; `after.wanted` is what the model says after the line that
  // the edit leads towards; `where` is the layer that was changed.
  function outcome(know, before, after, own, model, where) {
    const L = before.ids.length - 1, at = before.tokens.length - 1;
    const wanted = { text: know.words[after.wanted], kind: know.kind(after.wanted, own), meaning: know.meanings[after.wanted] };
    const [was, now] = [before, after].map((reading) => know.cell(reading, L, at, own)[0]);
    if (was.id === now.id) {
      return [[["Nothing turns: ", "strong"], [model, "model"], [" said "], word(was), [` (${percent(was.p)}) and still says `], word(now), [` (${percent(now.p)}).`]]];
    }
    const turned = [["It turns: ", "strong"], [model, "model"], [" said "], word(was), [` (${percent(was.p)}) and now says `], word(now), [` (${percent(now.p)}).`]];
    if (where === L) {
      return [turned, [[`Layer ${L} is the last: no layer is left to use what you wrote, so this is no sign that any would.`]]];
    }
    const alike = wanted.meaning >= 0 && wanted.meaning === now.meaning, meant = alike && now.p >= CLEAR;
    if (meant && now.kind === own && now.id !== after.wanted) {
      return [turned, [["What came in was English ("], word(wanted), [`); what comes out is ${NAMES[own]}. The meaning crossed over and the language stayed.`]]];
    }
    if (meant && now.id === after.wanted && own !== "en") {
      return [turned, [["It says the English word itself: the language came over with the meaning."]]];
    }
    if (alike || now.id === after.wanted) return [turned];
    return [turned, [["After the line it was led towards, it says "], word(wanted), [": that is not what came out here."]]];
  }

  return { NAMES, MODELS, UNTRAINED, make, finding, compared, outcome, percent, cap };
})();
