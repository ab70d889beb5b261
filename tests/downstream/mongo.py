"""A small server in memory that speaks MongoDB's wire protocol: as much as the tests ask for.

One thread for each connection, so that nothing of the loop under test serves it. Messages and
commands are as the public specification has them (OP_MSG, and OP_QUERY for the first greeting);
the documents are coded by pymongo's own `bson`.
"""

import contextlib
import itertools
import operator
import socket
import socketserver
import struct
import threading
import time

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1, 2
HEADER = struct.Struct("<iiii")

# What a server of version 7.0 calls itself.
WIRE_VERSION = 21


class CommandError(Exception):
    def __init__(self, code, name, text):
        super().__init__(text)
        self.code, self.name = code, name


@contextlib.contextmanager
def serving(tls=None):
    """Run a server on a free port; gives its address."""
    server = _Server(("127.0.0.1", 0), _Connection)
    server.tls = tls
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.drop_connections()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, *args):
        super().__init__(*args)
        self.store = Store()
        self.connections = set()

    @property
    def url(self):
        return "mongodb://127.0.0.1:%d/" % self.server_address[1]

    def drop_connections(self):
        """Break all connections, as a server that falls over does."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        pass  # a client that leaves in the middle of a message


class _Connection(socketserver.BaseRequestHandler):
    def setup(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.server.connections.add(self.request)

    def finish(self):
        self.server.connections.discard(self.request)
        self.request.close()

    def handle(self):
        file = self.request.makefile("rb")
        with file:
            while head := file.read(HEADER.size):
                length, request_id, _, opcode = HEADER.unpack(head)
                body = file.read(length - HEADER.size)
                if opcode == OP_QUERY:
                    reply = OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + self.legacy(body)
                else:
                    flags, command = parse_message(body)
                    answer = bson.encode(self.answer(command))
                    if flags & MORE_TO_COME:
                        continue
                    reply = OP_MSG, struct.pack("<iB", 0, 0) + answer
                code, content = reply
                size = HEADER.size + len(content)
                self.request.sendall(HEADER.pack(size, 0, request_id, code) + content)

    def legacy(self, body):
        place = body.index(b"\0", 4) + 1 + 8
        return bson.encode(self.answer({**bson.decode(body[place:]), "$db": "admin"}))

    def answer(self, command):
        try:
            return {**self.server.store.command(command), "ok": 1.0}
        except CommandError as error:
            return {"ok": 0.0, "errmsg": str(error), "code": error.code, "codeName": error.name}


def parse_message(body):
    """The flags and the command of an OP_MSG, its sequences of documents put in."""
    [flags] = struct.unpack_from("<I", body)
    end = len(body) - (4 if flags & CHECKSUM_PRESENT else 0)
    place, command, sequences = 4, None, {}
    while place < end:
        kind = body[place]
        [size] = struct.unpack_from("<i", body, place + 1)
        part = body[place + 1 : place + 1 + size]
        if kind == 0:
            command = bson.decode(part)
        else:
            stop = part.index(b"\0", 4)
            sequences[part[4:stop].decode()] = bson.decode_all(part[stop + 1 :])
        place += 1 + size
    return flags, {**command, **sequences}


# -- documents ------------------------------------------------------------------------------------

COMPARISONS = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": lambda value, other: value is not None and value > other,
    "$gte": lambda value, other: value is not None and value >= other,
    "$lt": lambda value, other: value is not None and value < other,
    "$lte": lambda value, other: value is not None and value <= other,
    "$in": lambda value, other: value in other,
}


def matches(document, conditions):
    """Whether a document fulfils a filter."""
    for name, wanted in conditions.items():
        if name == "$or":
            if not any(matches(document, part) for part in wanted):
                return False
            continue
        value = document.get(name)
        if not (isinstance(wanted, dict) and any(key.startswith("$") for key in wanted)):
            wanted = {"$eq": wanted}
        if not all(COMPARISONS[sign](value, other) for sign, other in wanted.items()):
            return False
    return True


def changed(document, change):
    """The document after an update, or its replacement."""
    if not any(name.startswith("$") for name in change):
        return {"_id": document["_id"], **change}
    document = dict(document)
    document.update(change.get("$set", {}))
    for name, amount in change.get("$inc", {}).items():
        document[name] = document.get(name, 0) + amount
    for name, value in change.get("$push", {}).items():
        document[name] = [*document.get(name, []), value]
    for name in change.get("$unset", {}):
        document.pop(name, None)
    return document


def ordered(documents, order):
    for name, direction in reversed(list((order or {}).items())):
        documents = sorted(documents, key=lambda item: item.get(name), reverse=direction < 0)
    return documents


def projected(document, projection):
    if not projection:
        return document
    names = {name for name, wanted in projection.items() if wanted}
    if names:
        names |= {"_id"} if projection.get("_id", 1) else set()
        return {name: value for name, value in document.items() if name in names}
    return {name: value for name, value in document.items() if name not in projection}


def grouped(documents, group):
    """The stage $group, with $sum alone."""
    found = {}
    for document in documents:
        key = group["_id"]
        if isinstance(key, str):
            key = document.get(key.removeprefix("$"))
        row = found.setdefault(key, {"_id": key})
        for name, rule in group.items():
            if name != "_id":
                amount = rule["$sum"]
                amount = document.get(amount[1:], 0) if isinstance(amount, str) else amount
                row[name] = row.get(name, 0) + amount
    return list(found.values())


# -- commands -------------------------------------------------------------------------------------


class Store:
    """The collections and the open cursors."""

    def __init__(self):
        self.lock = threading.RLock()
        self.collections = {}
        self.cursors = {}
        self.numbers = itertools.count(1)
        self.sleeping = 0

    def command(self, command):
        name = next(iter(command))
        if name == "sleep":
            # A command that takes long: not with the lock.
            self.sleeping += 1
            time.sleep(command["seconds"])
            return {}
        handler = getattr(self, f"do_{name.lower()}", None)
        if handler is None:
            raise CommandError(59, "CommandNotFound", f"no such command: '{name}'")
        with self.lock:
            return handler(command)

    def collection(self, command):
        return self.collections.setdefault(f"{command['$db']}.{next(iter(command.values()))}", {})

    def chosen(self, command, conditions):
        return [item for item in self.collection(command).values() if matches(item, conditions)]

    def cursor(self, command, documents, size):
        """The first batch, and a cursor for the rest."""
        size = 101 if size is None else size
        rest, number = documents[size:], 0
        if rest:
            number = next(self.numbers)
            self.cursors[number] = rest
        namespace = f"{command['$db']}.{next(iter(command.values()))}"
        return {"cursor": {"id": bson.Int64(number), "ns": namespace, "firstBatch": documents[:size]}}

    def do_hello(self, command):
        return {
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48 << 20,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "connectionId": next(self.numbers),
        }

    do_ismaster = do_hello

    def do_ping(self, command):
        return {}

    do_endsessions = do_ping

    def do_buildinfo(self, command):
        return {"version": "7.0.0", "versionArray": [7, 0, 0, 0]}

    def do_insert(self, command):
        documents, errors, count = self.collection(command), [], 0
        for index, document in enumerate(command["documents"]):
            if document["_id"] in documents:
                text = f"E11000 duplicate key error: {document['_id']}"
                errors.append({"index": index, "code": 11000, "errmsg": text})
                if command.get("ordered", True):
                    break
                continue
            documents[document["_id"]] = document
            count += 1
        return {"n": count, **({"writeErrors": errors} if errors else {})}

    def do_find(self, command):
        found = ordered(self.chosen(command, command.get("filter", {})), command.get("sort"))
        found = found[command.get("skip", 0) :][: abs(command.get("limit", 0)) or None]
        found = [projected(document, command.get("projection")) for document in found]
        size = len(found) if command.get("singleBatch") else command.get("batchSize")
        return self.cursor(command, found, size)

    def do_getmore(self, command):
        number, size = command["getMore"], command.get("batchSize", 1000)
        if number not in self.cursors:
            raise CommandError(43, "CursorNotFound", f"cursor id {number} not found")
        batch, rest = self.cursors[number][:size], self.cursors.pop(number)[size:]
        if rest:
            self.cursors[number] = rest
        namespace = f"{command['$db']}.{command['collection']}"
        return {"cursor": {"id": bson.Int64(number if rest else 0), "ns": namespace, "nextBatch": batch}}

    def do_killcursors(self, command):
        killed = [number for number in command["cursors"] if self.cursors.pop(number, None)]
        return {"cursorsKilled": killed}

    def do_update(self, command):
        documents, count, modified, upserted = self.collection(command), 0, 0, []
        for index, update in enumerate(command["updates"]):
            found = self.chosen(command, update["q"])[: None if update.get("multi") else 1]
            for old in found:
                documents[old["_id"]] = new = changed(old, update["u"])
                modified += new != old
            count += len(found)
            if not found and update.get("upsert"):
                key = update["q"].get("_id", bson.ObjectId())
                documents[key] = changed({**update["q"], "_id": key}, update["u"])
                upserted.append({"index": index, "_id": key})
                count += 1
        return {"n": count, "nModified": modified, **({"upserted": upserted} if upserted else {})}

    def do_delete(self, command):
        count = 0
        for delete in command["deletes"]:
            for document in self.chosen(command, delete["q"])[: delete["limit"] or None]:
                del self.collection(command)[document["_id"]]
                count += 1
        return {"n": count}

    def do_findandmodify(self, command):
        found = ordered(self.chosen(command, command.get("query", {})), command.get("sort"))
        if not found:
            return {"value": None}
        if command.get("remove"):
            return {"value": self.collection(command).pop(found[0]["_id"])}
        new = changed(found[0], command["update"])
        self.collection(command)[new["_id"]] = new
        return {"value": new if command.get("new") else found[0]}

    def do_aggregate(self, command):
        documents = list(self.collection(command).values())
        for stage in command["pipeline"]:
            [(name, rule)] = stage.items()
            if name == "$match":
                documents = [document for document in documents if matches(document, rule)]
            elif name == "$sort":
                documents = ordered(documents, rule)
            elif name == "$group":
                documents = grouped(documents, rule)
            else:
                raise CommandError(40324, "Location40324", f"Unrecognized pipeline stage name: '{name}'")
        return self.cursor(command, documents, command.get("cursor", {}).get("batchSize"))

    def do_count(self, command):
        return {"n": len(self.chosen(command, command.get("query", {})))}

    def do_distinct(self, command):
        found = self.chosen(command, command.get("query", {}))
        return {"values": sorted({document.get(command["key"]) for document in found})}

    def do_listcollections(self, command):
        prefix = f"{command['$db']}."
        names = [name.removeprefix(prefix) for name in self.collections if name.startswith(prefix)]
        found = [{"name": name, "type": "collection"} for name in names]
        return self.cursor({"": "$cmd.listCollections", "$db": command["$db"]}, found, None)

    def do_drop(self, command):
        self.collections.pop(f"{command['$db']}.{command['drop']}", None)
        return {}
