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
for (const line of readFileSync(file, "utf8").trimEnd().split("\n")) {
  const inputs = tokenizer(prefix + line, { truncation: true, max_length: max_source_length });
  const [ids] = (await model.generate(inputs)).tolist();
  console.log(tokenizer.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false }).trim());
}
