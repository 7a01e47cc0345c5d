/** A request as a call that can be copied: for a shell and for Python. The key is a variable of the environment. */

import { minified, parse, pretty, pythonWord } from "./json.js";

const KEY = "POWERCUT_API_KEY";

/**
 * What to copy for one analysis.
 *
 * @param {object} of With the strings `name`, `url` and `root`, `body` (valid JSON text of an object), whether it is
 *   `jobOnly` and `keyed`, and `again`: fields of the reply that, sent along, make the picture the same run's.
 * @returns {{label: string, text: string}[]}
 */
export function snippets(of) {
  if (of.jobOnly) {
    return [
      { label: "Shell", text: batchShell(of) },
      { label: "Python", text: batchPython(of) },
    ];
  }
  return [
    { label: "curl", text: curl(of) },
    { label: "curl, picture", text: curl(of, "image/png") },
    { label: "Python", text: python(of) },
  ];
}

function curl({ name, url, body, keyed }, accept = "application/json") {
  const words = [
    `curl -sS ${quoted(url)}`,
    ...(keyed ? [`-H "Authorization: Bearer $${KEY}"`] : []),
    "-H 'Content-Type: application/json'",
    ...(accept === "application/json" ? [] : [`-H 'Accept: ${accept}'`, `-o ${name.replaceAll("/", "-")}.png`]),
    "--data-binary @- <<'JSON'",
  ];
  return `${words.join(" \\\n  ")}\n${hereText(body)}\nJSON\n`;
}

function python({ name, url, body, keyed, again }) {
  const headers = keyed ? ", headers=headers" : "";
  const both = keyed ? "headers | {" : "{";
  const lines = [
    ...(keyed ? ["import os", ""] : []),
    "import httpx",
    "",
    `url = ${pythonWord(url)}`,
    ...(keyed ? [`headers = {"Authorization": "Bearer " + os.environ["${KEY}"]}`] : []),
    `request = ${pretty(parse(body), pythonWord)}`,
    "",
    `reply = httpx.post(url, json=request${headers}, timeout=120)`,
    "reply.raise_for_status()",
    "print(reply.json())",
    "",
    "# The picture of the same run:",
    ...again.map((field) => `request["${field}"] = reply.json()["${field}"]`),
    `picture = httpx.post(url, json=request, headers=${both}"Accept": "image/png"}, timeout=120)`,
    "picture.raise_for_status()",
    `with open("${name.replaceAll("/", "-")}.png", "wb") as file:`,
    "    file.write(picture.content)",
  ];
  return `${lines.join("\n")}\n`;
}

function row({ name, body }) {
  return `{"custom_id":"${name}","method":"POST","url":"/v1/analysis/${name}","body":${minified(body)}}`;
}

function batchShell(of) {
  const key = of.keyed ? ` --api-key "$${KEY}"` : "";
  const command = `powercut batch run requests.jsonl -o answers.jsonl --url ${quoted(of.root)}${key}`;
  return `cat > requests.jsonl <<'JSON'\n${hereText(row(of))}\nJSON\n${command}\n`;
}

function batchPython(of) {
  const key = of.keyed ? `os.environ["${KEY}"]` : '"none"';
  const line = {
    custom_id: of.name,
    method: "POST",
    url: `/v1/analysis/${of.name}`,
    body: parse(of.body),
  };
  const lines = [
    "import json",
    ...(of.keyed ? ["import os"] : []),
    "import time",
    "",
    "from openai import OpenAI",
    "",
    `row = ${pretty(line, pythonWord)}`,
    `client = OpenAI(base_url=${pythonWord(`${of.root}/v1`)}, api_key=${key})`,
    'file = client.files.create(file=("requests.jsonl", json.dumps(row).encode()), purpose="batch")',
    `batch = client.batches.create(input_file_id=file.id, endpoint=row["url"], completion_window="24h")`,
    'while batch.status not in {"completed", "failed", "expired", "cancelled"}:',
    "    time.sleep(1)",
    "    batch = client.batches.retrieve(batch.id)",
    "print(client.files.content(batch.output_file_id or batch.error_file_id).text)",
  ];
  return `${lines.join("\n")}\n`;
}

/** A word of the shell that means itself. */
function quoted(text) {
  return /^[\w@%+=:,./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * JSON between quoted heredoc marks, where a shell changes nothing; but for "!", which some expand when typed to. It
 * stands in strings only, where its escape says the same.
 */
function hereText(json) {
  return json.replaceAll("!", "\\u0021");
}
