"""Creates the accounts of the reference services (FastAPI and Fastify) of the benchmark: `accounts.py ACCOUNTS DATABASE`.

ACCOUNTS is the file that `latchkey user import` reads, with one JSON object a line. DATABASE is the SQLite database to create.
"""

import json
import sqlite3
import sys
import uuid

accounts_path, database_path = sys.argv[1:]
database = sqlite3.connect(database_path)
# WITHOUT ROWID: the services read accounts by their email only, so the table is one index of emails.
database.execute("CREATE TABLE accounts (email TEXT PRIMARY KEY, id TEXT NOT NULL, password_hash TEXT NOT NULL) WITHOUT ROWID")
with open(accounts_path) as file:
    for line in file:
        account = json.loads(line)
        # the file has no ids
        row = (account["email"], str(uuid.uuid4()), account["password_hash"])
        database.execute("INSERT INTO accounts (email, id, password_hash) VALUES (?, ?, ?)", row)
database.commit()
