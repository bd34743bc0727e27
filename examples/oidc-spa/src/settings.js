// The address of Latchkey (its setting `issuer`).
export const issuer = "http://localhost:8080";
// The id under which the app is registered with Latchkey.
export const clientId = "notebook";
