// Reports what a generation of a model wrote to a monitor, and prints the verdict as JSON.
//
//   node monitor.mjs --monitor ID --number N [--address HOST:PORT] [--protos DIR] [--includes DIR] < documents.txt
//
// Without them: 127.0.0.1:50054, and ../../proto and ./includes beside this file. One document a line. A monitor that
// does not exist is made, and its first generation is what the others are compared with. What the coordinator refuses
// is printed as JSON as well, with status 1; the status of a collapse is 3.
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { chosen, insecure, load, send } from "./contract.mjs";

const ALREADY_EXISTS = 6;

const options = chosen({
  address: { type: "string", default: "127.0.0.1:50054" },
  monitor: { type: "string" },
  number: { type: "string" },
});
if (!options.monitor || !/^\d+$/.test(options.number ?? "")) {
  console.error("say which monitor and which generation: --monitor ID --number N");
  process.exit(2);
}
const { v1, refusal } = await load("ouroscope/v1/monitor.proto", options);
const client = new v1.MonitorService(options.address, insecure());

async function ensureMonitor(deadline) {
  try {
    await new Promise((resolve, reject) => {
      const request = { monitor_id: options.monitor };
      client.CreateMonitor(request, { deadline }, (error, monitor) => (error ? reject(error) : resolve(monitor)));
    });
  } catch (error) {
    if (error.code !== ALREADY_EXISTS) throw error;
  }
}

function recorded(deadline) {
  // A call that broke may be made again with the same request_id.
  const head = { parent: `monitors/${options.monitor}`, number: Number(options.number), request_id: randomUUID() };
  return new Promise((resolve, reject) => {
    const call = client.RecordGeneration({ deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
    send(call, head, createInterface({ input: process.stdin, crlfDelay: Infinity })).catch(reject);
  });
}

const word = (value, prefix) => (value ? value.replace(prefix, "") : null);

try {
  const deadline = Date.now() + 600_000;
  await ensureMonitor(deadline);
  const generation = await recorded(deadline);
  const verdict = generation._verdict ? word(generation.verdict, "VERDICT_") : null; // null: it is the baseline
  const reason = generation._reason ? word(generation.reason, "VERDICT_REASON_") : null;
  console.log(JSON.stringify({ name: generation.name, verdict, reason, sentence: generation.sentence }));
  process.exitCode = verdict === "COLLAPSE" ? 3 : 0;
} catch (error) {
  if (error.metadata === undefined) throw error;
  console.log(JSON.stringify(refusal(error)));
  process.exitCode = 1;
} finally {
  client.close();
  process.stdin.destroy();
}
