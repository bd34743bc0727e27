"""Records the data of a release. Tests start later releases with this data (tests/it/recovery/releases.rs).

    python3 tests/tools/record_release.py path/to/latchkey tests/fixtures/releases/0.2.0

Needs redis-server, initdb, postgres, pg_dump and openssl. For sqlite and for postgres, it writes three files to the folder:
NAME.json: the data that clients have, such as tokens, passwords and keys.
NAME.sql: a dump of the database.
NAME.redis: the commands that create all keys of Redis. Each line is a command, whose words are in hexadecimal ("-" is an empty word).
"""

import glob
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

from recorded_features import Features

SECRET = "a fixed secret of the recorded releases"
PASSWORD = "tidal engine verse marmalade"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(check):
    """Calls a function until it raises no OSError, for a minute at most. Returns its result."""
    for _ in range(600):
        try:
            return check()
        except OSError:
            time.sleep(0.1)
    raise SystemExit("a server did not start")


class Redis:
    """Sends commands and reads answers (RESP 2)."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port)).makefile("rwb")

    def __call__(self, *words):
        self.stream.write(b"*%d\r\n" % len(words))
        for word in words:
            if isinstance(word, str):
                word = word.encode()
            self.stream.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.stream.flush()
        return self.answer()

    def answer(self):
        line = self.stream.readline().removesuffix(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"$":
            if rest == b"-1":
                return None
            data_and_line_end = self.stream.read(int(rest) + 2)
            return data_and_line_end[:-2]
        if kind == b"-":
            raise SystemExit(rest.decode())
        return int(rest) if kind == b":" else rest

    def commands(self):
        """Commands that create all keys, without their time to live."""
        for key in sorted(self("KEYS", "*")):
            kind = self("TYPE", key)
            if kind == b"hash":
                yield [b"HSET", key, *self("HGETALL", key)]
            elif kind == b"string":
                yield [b"SET", key, self("GET", key)]
            elif kind == b"stream":
                for entry_id, fields in self("XRANGE", key, "-", "+"):
                    yield [b"XADD", key, entry_id, *fields]
            else:
                raise SystemExit(f"{key}: {kind}")


def call(base, path, body, bearer=None):
    """Sends JSON, and returns the JSON of the response; None if it has no body. Raises an error unless the status is 2xx."""
    headers = {"content-type": "application/json"}
    if bearer:
        headers["authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        text = response.read()
    return json.loads(text) if text else None


def record(binary, folder, database_url):
    """Runs the release and uses it. Returns the data that its clients have, and the commands for Redis."""
    redis_port, port = free_port(), free_port()
    redis_server = subprocess.Popen(
        ["redis-server", "--port", str(redis_port), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
    )
    redis = wait_for(lambda: Redis(redis_port))
    environment = {
        "PATH": os.environ["PATH"],
        "LATCHKEY_SECRET": SECRET,
        "LATCHKEY_ISSUER": "http://127.0.0.1:8080",
        "LATCHKEY_DATABASE_URL": database_url,
        "LATCHKEY_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
        "LATCHKEY_LISTEN": f"127.0.0.1:{port}",
        "LATCHKEY_METRICS_LISTEN": "off",
        "LATCHKEY_PASSWORD_MEMORY_KIB": "64",
        "LATCHKEY_PASSWORD_ITERATIONS": "1",
        # The clock of the test starts a minute after the end of the recording, so recorded access tokens are valid in the test.
        "LATCHKEY_TOKEN_ACCESS_TTL": "30m",
    }

    def command(*arguments, text=None):
        """Runs a command of the release with `text` as its input. Returns its output."""
        done = subprocess.run(
            [binary, *arguments], env=environment, cwd=folder, input=text, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{arguments}: {done.stderr}")
        return done.stdout

    node = subprocess.Popen([binary, "serve"], env=environment, cwd=folder, stderr=subprocess.PIPE)
    base = f"http://127.0.0.1:{port}"

    def call_livez():
        if node.poll() is not None:
            raise SystemExit(node.stderr.read().decode())
        return urllib.request.urlopen(base + "/livez").read()

    try:
        wait_for(call_livez)
        ada = call(base, "/v1/users", {"email": "Ada@example.com", "username": "ada", "password": PASSWORD})
        command("user", "add", "bob@example.com", "--role", "admin", "--role", "ops", "--password-stdin", text=PASSWORD)
        added = command("client", "add", "billing", "--scope", "read")
        # `client add` prints lines such as "client_id: billing".
        client = dict(line.split(": ") for line in added.splitlines())

        def login(name):
            return call(base, "/v1/login", {"identifier": name, "password": PASSWORD})

        first, rotated, ended = login("ada"), login("ada"), login("ada")
        bob = login("bob@example.com")
        for _ in range(2):
            rotated = call(base, "/v1/refresh", {"refresh_token": rotated["refresh_token"]})
        call(base, "/v1/logout", {"refresh_token": ended["refresh_token"]})
        version = command("--version").split()[1]
        # Release 0.1.0 has none of the features.
        features = Features(base, PASSWORD, command).record() if version != "0.1.0" else {}
        recorded = {
            "version": version,
            "at": int(time.time() * 1000),
            "secret": SECRET,
            "password": PASSWORD,
            "account": ada["id"],
            "client": client,
            "live": [session["refresh_token"] for session in (first, rotated, bob)],
            "ended": ended["refresh_token"],
            "access": rotated["access_token"],
            **features,
        }
    finally:
        # The node writes its audit log to the database when it stops.
        node.terminate()
        node.wait()
        commands = list(redis.commands())
        redis_server.terminate()
        redis_server.wait()
    lines = [" ".join(word.hex() or "-" for word in words) + "\n" for words in commands]
    return recorded, "".join(lines)


def record_sqlite(binary, folder):
    """Records with SQLite. Returns the data of the clients, the commands for Redis and the dump of the database."""
    recorded, commands = record(binary, folder, f"sqlite://{folder}/latchkey.db")
    with sqlite3.connect(f"{folder}/latchkey.db") as database:
        dump = "\n".join(database.iterdump()) + "\n"
    return recorded, commands, dump


def record_postgres(binary, folder):
    """Records with PostgreSQL. Returns the same as record_sqlite."""
    # The newest release, where Debian's packages install it.
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
    port, data = free_port(), f"{folder}/postgres"
    os.mkdir(data)
    as_user = []
    # PostgreSQL refuses to run as root. Its user must be able to enter the folder.
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
        os.chmod(folder, 0o755)
        as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_user, f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, stdout=subprocess.DEVNULL)
    server = subprocess.Popen(
        [*as_user, f"{programs}/postgres", "-D", data, "-p", str(port), "-k", data, "-h", "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    )

    def accepts_queries():
        if subprocess.run([f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
            raise ConnectionRefusedError  # an OSError, so that wait_for repeats the call

    try:
        wait_for(accepts_queries)
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        recorded, commands = record(binary, folder, url)
        dump = subprocess.run(["pg_dump", "--no-owner", "--no-acl", "--inserts", url], check=True, capture_output=True, text=True)
        # Leaves out comments, and the commands of psql, which other programs can't run.
        lines = [line for line in dump.stdout.splitlines() if not line.startswith(("\\", "--"))]
        return recorded, commands, "\n".join(line for line in lines if line) + "\n"
    finally:
        server.terminate()
        server.wait()


def main():
    binary, target = os.path.abspath(sys.argv[1]), sys.argv[2]
    os.makedirs(target, exist_ok=True)
    for name, record_database in (("sqlite", record_sqlite), ("postgres", record_postgres)):
        with tempfile.TemporaryDirectory() as folder:
            recorded, commands, dump = record_database(binary, folder)
        with open(f"{target}/{name}.json", "w") as file:
            json.dump(recorded, file, indent=1)
            file.write("\n")
        for suffix, text in (("sql", dump), ("redis", commands)):
            with open(f"{target}/{name}.{suffix}", "w") as file:
                file.write(text)
    print(f"recorded {recorded['version']} in {target}")


main()
