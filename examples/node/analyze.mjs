// Streams documents to an analyzer and prints the numbers of its report as JSON. Nothing here is generated: the
// contract is read from the .proto files when the program starts.
//
//   node analyze.mjs [--protos DIR] [--includes DIR] [--address HOST:PORT] [--metric ID]... < documents.txt
//
// Without them: ../../proto and ./includes beside this file, and 127.0.0.1:50053.
// One document a line. What the analyzer refuses is printed as JSON as well, with status 1.
import { createInterface } from "node:readline";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const BATCH_BYTES = 512 * 1024; // of text in one message, which should stay under 1 MiB

const beside = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values: options } = parseArgs({
  options: {
    protos: { type: "string", default: beside("../../proto") },
    includes: { type: "string", default: beside("includes") },
    address: { type: "string", default: "127.0.0.1:50053" },
    metric: { type: "string", multiple: true, default: [] },
  },
});

const files = ["ouroscope/v1/analyzer.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
const includeDirs = [options.protos, options.includes];
for (const file of files) {
  if (includeDirs.some((folder) => existsSync(join(folder, file)))) continue;
  console.error(`${file} is neither in ${includeDirs.join(" nor in ")}; README.md says how to assemble the includes`);
  process.exit(2);
}
const definition = await protoLoader.load(files, {
  includeDirs,
  keepCase: true, // the names of the .proto files
  longs: Number, // counts stay far below 2^53
  enums: String,
  oneofs: true, // tells which optional fields are there
});
const { ouroscope } = grpc.loadPackageDefinition(definition);

// Sends the documents of `lines`; waits whenever the analyzer measures more slowly than they come.
async function send(call, lines) {
  // Only these fields of the report travel back; see docs/api.md.
  const wanted = ["documents", "tokens", "rungs.budget", "rungs.metrics.id", "rungs.metrics.value",
                  "rungs.metrics.undefined_because"];
  let message = { options: { metrics: options.metric, read_mask: { paths: wanted } }, documents: [] };
  let bytes = 0;
  let number = 0;
  const flush = async () => {
    if (!call.write(message)) await once(call, "drain");
    message = { documents: [] };
    bytes = 0;
  };
  for await (const text of lines) {
    message.documents.push({ id: `line-${number++}`, text });
    bytes += Buffer.byteLength(text) + 64;
    if (bytes > BATCH_BYTES) await flush();
  }
  await flush();
  call.end();
}

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

// A google.rpc.Status travels beside the error; its ErrorInfo has a reason for programs, and figures.
function refusal(error) {
  const [encoded] = error.metadata.get("grpc-status-details-bin");
  const decode = (type, bytes) => definition[type].deserialize(bytes);
  const details = encoded ? decode("google.rpc.Status", encoded).details : [];
  const told = { code: grpc.status[error.code], message: error.details };
  for (const { type_url: url, value } of details) {
    const type = url.split("/").at(-1);
    if (type === "google.rpc.ErrorInfo") Object.assign(told, decode(type, value));
    if (type === "google.rpc.BadRequest") told.fields = decode(type, value).field_violations.map(({ field }) => field);
  }
  return told;
}

const client = new ouroscope.v1.AnalyzerService(options.address, grpc.credentials.createInsecure());
try {
  const deadline = Date.now() + 600_000;
  const answer = new Promise((resolve, reject) => {
    const call = client.Analyze({ deadline }, (error, report) => (error ? reject(error) : resolve(report)));
    send(call, createInterface({ input: process.stdin, crlfDelay: Infinity })).catch(reject);
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
