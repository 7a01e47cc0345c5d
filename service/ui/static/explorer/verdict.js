/** What a lane's run came to: its state, what it cost, and whether its chains agree. */

import { el } from "../dom.js";
import { METHODS, count, number } from "./words.js";

const STATES = { running: "running", done: "finished", stopped: "stopped by you", dropped: "cut off", failed: "failed" };

/** A line of a lane. */
export function verdict(lane) {
  const { usage, diagnostics, choices } = lane.final;
  const parts = [STATES[lane.status] ?? lane.status];
  if (lane.request.power.mode === "paper") parts.push("paper mode: not a draw from π");
  const early = choices.find((choice) => choice?.power && choice.power.ended_by !== "completed");
  if (early) parts.push(`ended by ${early.power.ended_by.replace("_", " ")}: not a draw from π`);
  if (usage?.power) parts.push(...costs(usage.power));
  const lines = [el("p", {}, el("b", {}, `${METHODS[lane.method] ?? lane.method}: `), parts.join(" · "))];
  if (diagnostics && diagnostics.chains > 1) lines.push(el("p", {}, agreement(diagnostics)));
  const seed = choices.find((choice) => choice?.power)?.power;
  if (seed && seed.seeded_replay === false) lines.push(el("p", { class: "soft" }, "This engine draws by itself: the same seed may give other tokens."));
  return el("div", { class: "notice verdict" }, lines);
}

function costs(power) {
  return [
    `${power.accepted} of ${count(power.steps, "step")} accepted, ${power.moved} moved`,
    `${count(power.generated_tokens, "token")} drawn, ${count(power.free_tokens, "token")} free`,
    `${number(power.cost_ratio, 1)} times one sample`,
  ];
}

function agreement(found) {
  const { r_hat: hat, ess_bulk: ess } = found.log_pi;
  const said = { true: "the chains agree", false: "the chains disagree" }[String(found.converged)] ?? "not known whether the chains agree";
  return `${count(found.distinct_answers, "distinct answer")} of ${count(found.chains, "chain")} · R-hat of log π ${number(hat, 3)} · ESS ${number(ess, 0)} · ${said} (${found.reason})`;
}
