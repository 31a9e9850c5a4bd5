// Lines of a file through an exported folder with transformers.js: node generate.mjs FOLDER FILE
import { readFileSync } from "node:fs";
import { AutoModelForSeq2SeqLM, AutoTokenizer, env } from "@huggingface/transformers";

const [folder, file] = process.argv.slice(2);
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "/";
const { prefix, max_source_length } = JSON.parse(readFileSync(`${folder}/export.json`, "utf8"));
const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModelForSeq2SeqLM.from_pretrained(folder);
const closing = new Set(tokenizer.all_special_ids.filter((id) => id !== tokenizer.unk_token_id));

// As in page.html: the end token of a text that is cut stays.
function encode(text) {
  const inputs = tokenizer(text, { truncation: true, max_length: max_source_length });
  const whole = tokenizer.encode(text);
  const end = whole.slice(whole.findLastIndex((id) => !closing.has(id)) + 1);
  inputs.input_ids.data.set(end.map(BigInt), inputs.input_ids.data.length - end.length);
  return inputs;
}

for (const line of readFileSync(file, "utf8").trimEnd().split("\n")) {
  const [ids] = (await model.generate(encode(prefix + line))).tolist();
  console.log(tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false }).trim());
}
