// Latchkey's issuer, and the app's client_id there.
export const issuer = "http://localhost:8080";
export const clientId = "notebook";
