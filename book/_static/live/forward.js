// The forward pass of the book's small Llamas, and what every layer reads as.
//
// Everything stands inside one function without outside names, as its text becomes the worker (a page opened from disk
// may start a worker from a Blob, not from a file). Sizes: T tokens, L blocks, D the width of a state, V words.
// A state of layer 0 is the embedding; that of layer l is what block l puts out, before the final norm.

function semhubForward() {
  const models = {};

  // --- weights ------------------------------------------------------------------------------------------------------

  // All 65,536 half-precision numbers as ordinary ones.
  const halves = Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });

  // `parts` lists the tensors as [name, how many numbers] in the order in which `base64` holds them.
  function load(name, { config, parts, base64 }) {
    if (models[name]) return;
    const text = atob(base64), tensors = {};
    let at = 0;
    for (const [part, count] of parts) {
      const values = (tensors[part] = new Float32Array(count));
      for (let k = 0; k < count; k++, at += 2) values[k] = halves[text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8)];
    }
    models[name] = { ...config, tensors };
  }

  // --- arithmetic ---------------------------------------------------------------------------------------------------

  // Rows of x [T, n] times the transpose of W [m, n].
  function times(x, W, n) {
    const T = x.length / n, m = W.length / n, out = new Float32Array(T * m);
    for (let t = 0; t < T; t++) {
      for (let row = 0; row < m; row++) {
        let sum = 0;
        for (let k = 0, a = t * n, b = row * n; k < n; k++) sum += x[a + k] * W[b + k];
        out[t * m + row] = sum;
      }
    }
    return out;
  }

  // Every row divided by its root mean square, times a weight for each number.
  function norm(x, weight, eps) {
    const n = weight.length, out = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += n) {
      let squares = 0;
      for (let k = 0; k < n; k++) squares += x[start + k] ** 2;
      const scale = 1 / Math.sqrt(squares / n + eps);
      for (let k = 0; k < n; k++) out[start + k] = x[start + k] * scale * weight[k];
    }
    return out;
  }

  // In place, on one row.
  function softmax(row) {
    let top = -Infinity, total = 0;
    for (const value of row) if (value > top) top = value;
    for (let k = 0; k < row.length; k++) total += row[k] = Math.exp(row[k] - top);
    for (let k = 0; k < row.length; k++) row[k] /= total;
    return row;
  }

  // Turns the pairs (k, k + half) of every head by an angle that grows with the token's place.
  function rotate(x, D, size, theta) {
    const half = size / 2;
    for (let t = 0; t < x.length / D; t++) {
      for (let k = 0; k < half; k++) {
        const angle = t * theta ** (-2 * k / size), cos = Math.cos(angle), sin = Math.sin(angle);
        for (let at = t * D + k; at < (t + 1) * D; at += size) {
          const [a, b] = [x[at], x[at + half]];
          x[at] = a * cos - b * sin;
          x[at + half] = b * cos + a * sin;
        }
      }
    }
  }

  function attend(q, k, v, D, heads) {
    const size = D / heads, T = q.length / D, out = new Float32Array(q.length);
    for (let head = 0; head < D; head += size) {
      for (let t = 0; t < T; t++) {
        const share = new Float64Array(t + 1);
        for (let s = 0; s <= t; s++) {
          for (let j = head; j < head + size; j++) share[s] += q[t * D + j] * k[s * D + j];
          share[s] /= Math.sqrt(size);
        }
        softmax(share);
        for (let s = 0; s <= t; s++) {
          for (let j = head; j < head + size; j++) out[t * D + j] += share[s] * v[s * D + j];
        }
      }
    }
    return out;
  }

  function block(h, model, number) {
    const { D, eps, theta, heads, tensors } = model;
    const W = (part) => tensors[`model.layers.${number}.${part}.weight`];
    const x = norm(h, W("input_layernorm"), eps);
    const [q, k, v] = ["q", "k", "v"].map((one) => times(x, W(`self_attn.${one}_proj`), D));
    rotate(q, D, D / heads, theta);
    rotate(k, D, D / heads, theta);
    const read = times(attend(q, k, v, D, heads), W("self_attn.o_proj"), D);
    const middle = h.map((value, at) => value + read[at]);
    const y = norm(middle, W("post_attention_layernorm"), eps);
    const gate = times(y, W("mlp.gate_proj"), D), up = times(y, W("mlp.up_proj"), D);
    const inner = gate.map((value, at) => (value / (1 + Math.exp(-value))) * up[at]);
    const written = times(inner, W("mlp.down_proj"), inner.length / (h.length / D));
    return middle.map((value, at) => value + written[at]);
  }

  // --- reading and changing -----------------------------------------------------------------------------------------

  // The states of all layers, [L + 1][T * D]. `change(h, layer)` may write into them as they come.
  function states(model, ids, change = () => {}) {
    const { D, L, tensors } = model, found = [];
    let h = new Float32Array(ids.length * D);
    ids.forEach((id, t) => h.set(tensors["model.embed_tokens.weight"].subarray(id * D, (id + 1) * D), t * D));
    for (let layer = 0; layer <= L; layer++) {
      if (layer) h = block(h, model, layer - 1);
      change(h, layer);
      found.push(h);
    }
    return found;
  }

  // The logit lens: through the final norm and the unembedding, [T * V] numbers before the softmax.
  function logits(model, h) {
    const x = norm(h, model.tensors["model.norm.weight"], model.eps);
    return times(x, model.tensors["lm_head.weight"] ?? model.tensors["model.embed_tokens.weight"], model.D);
  }

  // The k likeliest words of a row of probabilities, likeliest first.
  function likeliest(row, k) {
    const best = [];
    for (let id = 0; id < row.length; id++) {
      if (best.length === k && row[id] <= row[best[k - 1]]) continue;
      let at = best.length;
      while (at && row[best[at - 1]] < row[id]) at--;
      best.splice(at, 0, id);
      if (best.length > k) best.pop();
    }
    return best;
  }

  // What an edit writes at its place: {layer, position, strength, toward, from}. `toward` and `from` are the ids of two
  // lines, read at their ends. With `from`, strength times (toward minus from) is added; without, toward's state is put in.
  function changer(model, { layer, position, strength, toward: line, from: other }) {
    const { D } = model, end = (ids) => states(model, ids)[layer].subarray((ids.length - 1) * D);
    const toward = end(line), from = other && end(other);
    return (h, at) => {
      if (at !== layer) return;
      for (let k = 0; k < D; k++) {
        if (from) h[position * D + k] += strength * (toward[k] - from[k]);
        else h[position * D + k] = toward[k];
      }
    };
  }

  // Of every layer and token the k likeliest next words and their probabilities, [L + 1][T][k]; with an edit also the
  // likeliest word after the line it leads towards (`wanted`); with `whole` all states and all logits.
  function read({ name, ids, edit = null, k = 8, whole = false }) {
    const model = models[name], found = states(model, ids, edit ? changer(model, edit) : undefined);
    const answer = { ids: [], probs: [] };
    if (edit) {
      const last = states(model, edit.toward)[model.L].subarray(-model.D);
      answer.wanted = likeliest(logits(model, last), 1)[0];
    }
    const rows = found.map((h) => logits(model, h));
    if (whole) Object.assign(answer, { states: found, logits: rows.map((row) => row.slice()) });
    for (const row of rows) {
      const V = row.length / ids.length;
      const cells = ids.map((_, t) => softmax(row.subarray(t * V, (t + 1) * V)));
      const best = cells.map((cell) => likeliest(cell, k));
      answer.ids.push(best);
      answer.probs.push(best.map((some, t) => some.map((id) => cells[t][id])));
    }
    return answer;
  }

  return { load, read };
}
