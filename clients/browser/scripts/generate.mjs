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

/** The schemas to write, by their names. */
const wanted = new Map();

/** Returns the name of the schema that a reference such as `#/components/schemas/Problem` points to. */
const referredName = (reference) => reference.split("/").pop();

/** Adds the schema with this name, and the schemas that it refers to, to `wanted`. */
function collect(name) {
  const schema = schemas[name];
  if (!schema || wanted.has(name)) return;
  wanted.set(name, schema);
  // Used for its traversal only: JSON.stringify calls the function for every nested member.
  JSON.stringify(schema, (key, value) => {
    if (key === "$ref") collect(referredName(value));
    return value;
  });
}

/** Returns the TypeScript type of a schema. */
function typeOf(schema) {
  if (schema.$ref) return referredName(schema.$ref);
  if (schema.allOf) {
    // The other parts only add a description.
    const typed = schema.allOf.filter((part) => part.$ref || part.type || part.enum);
    return typed.map(typeOf).join(" & ");
  }
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `Array<${typeOf(schema.items)}>`;
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "string") return "string";
  return "unknown";
}

/** Returns `text` as a doc comment of one line, or an empty string if there is no text. */
function comment(text, indent = "") {
  return text ? `${indent}/** ${text.replace(/\s+/g, " ").trim()} */\n` : "";
}

/** Returns the exported type or interface of the schema with this name. */
function declaration(name, schema) {
  if (schema.enum) return `${comment(schema.description)}export type ${name} = ${typeOf(schema)};\n`;
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([field, property]) => {
    const optional = required.has(field) ? "" : "?";
    return `${comment(property.description, "  ")}  ${field}${optional}: ${typeOf(property)};\n`;
  });
  return `${comment(schema.description)}export interface ${name} {\n${fields.join("")}}\n`;
}

ROOTS.forEach(collect);
const missing = ROOTS.filter((root) => !wanted.has(root));
if (missing.length) throw new Error(`openapi.json has no schema ${missing.join(", ")}`);
const header = "// Generated from openapi.json by scripts/generate.mjs (`npm run generate`). Do not edit.\n\n";
const names = [...wanted.keys()].sort();
const declarations = names.map((name) => declaration(name, wanted.get(name)));
writeFileSync(output, header + declarations.join("\n"));
