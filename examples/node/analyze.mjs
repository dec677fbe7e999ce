// Streams documents to an analyzer and prints the numbers of its report as JSON. Nothing here is generated: the
// contract is read from the .proto files when the program starts.
//
//   node analyze.mjs [--protos DIR] [--includes DIR] [--address HOST:PORT] [--metric ID]... < documents.txt
//
// Without them: ../../proto and ./includes beside this file, and 127.0.0.1:50053.
// One document a line. What the analyzer refuses is printed as JSON as well, with status 1.
import { createInterface } from "node:readline";
import { chosen, insecure, load, send } from "./contract.mjs";

const options = chosen({
  address: { type: "string", default: "127.0.0.1:50053" },
  metric: { type: "string", multiple: true, default: [] },
});
const { v1, refusal } = await load("ouroscope/v1/analyzer.proto", options);

// Only these fields of the report travel back; see docs/api.md.
const WANTED = ["documents", "tokens", "rungs.budget", "rungs.metrics.id", "rungs.metrics.value",
                "rungs.metrics.undefined_because"];

function headline(report) {
  const rung = report.rungs.at(-1); // the largest token budget that the documents reach
  const told = (metric) => (metric._value ? metric.value : { undefined_because: metric.undefined_because });
  return {
    documents: report.documents,
    tokens: report.tokens,
    budget: rung ? rung.budget : null,
    metrics: Object.fromEntries((rung ? rung.metrics : []).map((metric) => [metric.id, told(metric)])),
  };
}

const client = new v1.AnalyzerService(options.address, insecure());
try {
  const deadline = Date.now() + 600_000;
  const head = { options: { metrics: options.metric, read_mask: { paths: WANTED } } };
  const answer = new Promise((resolve, reject) => {
    const call = client.Analyze({ deadline }, (error, report) => (error ? reject(error) : resolve(report)));
    send(call, head, createInterface({ input: process.stdin, crlfDelay: Infinity })).catch(reject);
  });
  console.log(JSON.stringify(headline(await answer)));
} catch (error) {
  if (error.metadata === undefined) throw error;
  console.log(JSON.stringify(refusal(error)));
  process.exitCode = 1;
} finally {
  client.close();
  process.stdin.destroy();
}
