// What the examples share: the contract read from the .proto files when a program starts, documents cut into messages,
// and refusals read with their details. Nothing here is generated.
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const BATCH_BYTES = 512 * 1024; // of text in one message, which should stay under 1 MiB

const beside = (path) => fileURLToPath(new URL(path, import.meta.url));

// Reads the command line: the options of every example, and `own` ones.
export function chosen(own) {
  const { values } = parseArgs({
    options: {
      protos: { type: "string", default: beside("../../proto") },
      includes: { type: "string", default: beside("includes") },
      ...own,
    },
  });
  return values;
}

// Returns the package ouroscope.v1 with the service of `file`, and how its refusals are read.
export async function load(file, { protos, includes }) {
  const files = [file, "google/rpc/status.proto", "google/rpc/error_details.proto"];
  const includeDirs = [protos, includes];
  for (const wanted of files) {
    if (includeDirs.some((folder) => existsSync(join(folder, wanted)))) continue;
    console.error(`${wanted} is neither in ${includeDirs.join(" nor in ")}; README.md says how to assemble the includes`);
    process.exit(2);
  }
  const definition = await protoLoader.load(files, {
    includeDirs,
    keepCase: true, // the names of the .proto files
    longs: Number, // counts stay far below 2^53
    enums: String,
    oneofs: true, // tells which optional fields are there
  });
  return { v1: grpc.loadPackageDefinition(definition).ouroscope.v1, refusal: (error) => refusal(definition, error) };
}

export const insecure = () => grpc.credentials.createInsecure();

// Sends `head` and then the documents of `lines`; waits whenever the service measures more slowly than they come.
export async function send(call, head, lines) {
  let message = { ...head, documents: [] };
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

// A google.rpc.Status travels beside the error; its ErrorInfo has a reason for programs, and figures.
function refusal(definition, error) {
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
