"""Creates the accounts of the FastAPI and the Fastify reference: `accounts.py LINES DATABASE`.

LINES is a file for `latchkey user import`, DATABASE the SQLite database to create.
"""

import json
import sqlite3
import sys
import uuid

lines, path = sys.argv[1:]
database = sqlite3.connect(path)
database.execute("CREATE TABLE accounts (email TEXT PRIMARY KEY, id TEXT NOT NULL, password_hash TEXT NOT NULL) WITHOUT ROWID")
with open(lines) as file:
    for line in file:
        account = json.loads(line)
        row = (account["email"], str(uuid.uuid4()), account["password_hash"])
        database.execute("INSERT INTO accounts (email, id, password_hash) VALUES (?, ?, ?)", row)
database.commit()
