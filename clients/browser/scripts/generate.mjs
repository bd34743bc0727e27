// Writes the TypeScript types of the calls that this package makes, and the codes of problems, from openapi.json.
// Usage: node generate.mjs openapi.json src/api.ts
import { readFileSync, writeFileSync } from "node:fs";

const [input, output] = process.argv.slice(2);
const document = JSON.parse(readFileSync(input, "utf8"));
const schemas = document.components.schemas;

// The schemas that the client's methods take and return, and what they refer to.
const ROOTS = [
  "LoginRequest",
  "TokensResponse",
  "RegisterRequest",
  "AccountResponse",
  "SessionsResponse",
  "PasskeyOptions",
  "PasskeysResponse",
  "PasskeyAddedResponse",
  "DevicesResponse",
  "FactorsResponse",
  "TotpEnrolmentResponse",
  "FactorTokensResponse",
  "ReauthenticatedResponse",
  "Problem",
];

const wanted = new Map();

/** Adds the schema with this name, and the schemas that it refers to, to `wanted`. */
function collect(name) {
  if (wanted.has(name) || !schemas[name]) return;
  wanted.set(name, schemas[name]);
  // JSON.stringify calls the function for every nested member.
  JSON.stringify(schemas[name], (key, value) => {
    if (key === "$ref") collect(value.split("/").pop());
    return value;
  });
}

/** Returns the TypeScript type of a schema. */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  // Parts without a type only add a description.
  if (schema.allOf) return schema.allOf.filter((part) => part.$ref || part.type || part.enum).map(typeOf).join(" & ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `Array<${typeOf(schema.items)}>`;
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "string") return "string";
  return "unknown";
}

function comment(text, indent = "") {
  return text ? `${indent}/** ${text.replace(/\s+/g, " ").trim()} */\n` : "";
}

/** Returns the exported type or interface of the schema with this name. */
function declaration(name, schema) {
  if (schema.enum) return `${comment(schema.description)}export type ${name} = ${typeOf(schema)};\n`;
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(
    ([field, type]) => `${comment(type.description, "  ")}  ${field}${required.has(field) ? "" : "?"}: ${typeOf(type)};\n`,
  );
  return `${comment(schema.description)}export interface ${name} {\n${fields.join("")}}\n`;
}

ROOTS.forEach(collect);
const missing = ROOTS.filter((root) => !wanted.has(root));
if (missing.length) throw new Error(`openapi.json has no schema ${missing.join(", ")}`);
const parts = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, schema]) => declaration(name, schema));
writeFileSync(output, `// Generated from openapi.json by scripts/generate.mjs (\`npm run generate\`). Do not edit.\n\n${parts.join("\n")}`);
