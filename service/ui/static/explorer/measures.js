/** What a token is coloured by, and the cut law's own numbers. No DOM here. */

/** Steps of the colour ramp, from nothing to much. */
export const LEVELS = 9;

/** Measures by name: what they are, where the ramp ends, and the value of token i of a trace (null if unknown). */
export const MEASURES = {
  entropy: { label: "entropy H", unit: "nats", top: 4, of: (tokens, i) => tokens[i].entropy },
  jump: { label: "jump of entropy Δ", unit: "nats", top: 2, of: jumpOf },
  surprise: { label: "surprise −log p", unit: "nats", top: 4, of: (tokens, i) => negative(tokens[i].logP) },
  cut: { label: "probability of a cut", unit: "%", top: 50, of: null },
};

function negative(value) {
  return value === null ? null : Math.max(0, -value);
}

/** Δ_t = max(0, H_t − H_{t−1}), with H before the first token 0; null where one is unknown. */
export function jumpOf(tokens, i) {
  const now = tokens[i].entropy;
  const before = i > 0 ? tokens[i - 1].entropy : 0;
  return now === null || before === null ? null : Math.max(0, now - before);
}

/**
 * c(t|x), the probability that a step cuts at each token; null where the law is not known.
 *
 * With the entropy cut w_t = Δ_t^β, with the uniform one 1. Where all weights are 0 no position can be cut, but in paper
 * mode any. Of a trace that would have gone on these are upper bounds: more tokens only add to the sum of the weights.
 */
export function cutLaw(tokens, request) {
  const { method, mode } = request.power;
  const power = request.power.cut_power ?? 4;
  const even = tokens.map(() => 1 / tokens.length);
  if (method === "uniform_cut" || power === 0) return even;
  const logs = tokens.map((_, i) => {
    const jump = jumpOf(tokens, i);
    return jump === null ? NaN : power * Math.log(jump);
  });
  if (logs.some(Number.isNaN)) return null;
  const high = logs.reduce((most, value) => Math.max(most, value), -Infinity);
  if (high === -Infinity) return mode === "paper" ? even : tokens.map(() => 0);
  const weights = logs.map((value) => Math.exp(value - high));
  const total = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight) => weight / total);
}

/** α of a request: an exponent below 1 is asked for by the temperature. */
export function alphaOf({ power, temperature }) {
  return power.alpha ?? (temperature > 0 ? 1 / temperature : 4);
}

/** The values of all tokens of a trace in a measure. */
export function valuesOf(name, tokens, request) {
  const { of } = MEASURES[name];
  if (of !== null) return tokens.map((_, i) => of(tokens, i));
  const law = cutLaw(tokens, request);
  return tokens.map((_, i) => (law === null ? null : 100 * law[i]));
}

/** The step of the ramp for a value: 0 to LEVELS − 1, or null for what is unknown. */
export function levelOf(value, name) {
  if (value === null || !Number.isFinite(value)) return null;
  return Math.min(LEVELS - 1, Math.round((LEVELS - 1) * Math.min(1, value / MEASURES[name].top)));
}
