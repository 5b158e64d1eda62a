#!/usr/bin/env python3
"""Client of a Sweepbook server: file lists and status changes. Python 3.8, standard library only.

    book = Sweepbook("https://book.example.org")
    for file in book.files("AllEvents-Run4"):
        print(file["urls"][0])
    for event in book.follow(after=saved_cursor):
        print(event["dataset"]["name"], event["to"])
        saved_cursor = event["cursor"]
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException

__all__ = ["Sweepbook", "SweepbookError", "discover_token"]


class SweepbookError(Exception):
    """What the server refused, or that it could not be reached.

    code: as in docs/errors.md; CUT_OFF and NO_ANSWER are this client's own.
    facts: what is needed to act on it.
    """

    def __init__(self, code, message, facts=None):
        super().__init__(message)
        self.code = code
        self.facts = facts or {}


def discover_token(environment=None):
    """The token by WLCG bearer token discovery: BEARER_TOKEN, the file that BEARER_TOKEN_FILE
    names, $XDG_RUNTIME_DIR/bt_u<uid>, <tmp>/bt_u<uid>. None when there is none."""
    environment = os.environ if environment is None else environment
    token = environment.get("BEARER_TOKEN", "").strip()
    if token:
        return token
    named = environment.get("BEARER_TOKEN_FILE")
    if named:
        try:
            token = _read_token(named)
        except OSError as error:
            raise SweepbookError("UNAUTHENTICATED", "BEARER_TOKEN_FILE %s: %s" % (named, error.strerror))
        # An empty one is none: the next counts.
        if token:
            return token
    if not hasattr(os, "geteuid"):
        return None
    for folder in (environment.get("XDG_RUNTIME_DIR"), environment.get("TMPDIR") or "/tmp"):
        file = os.path.join(folder, "bt_u%d" % os.geteuid()) if folder else None
        try:
            # In a folder that all can write to, only a file of our own is ours; a link of others leads to what they like.
            if file and os.lstat(file).st_uid == os.stat(file).st_uid == os.geteuid():
                token = _read_token(file)
                if token:
                    return token
        except OSError:
            pass
    return None


def _read_token(file):
    with open(file, encoding="ascii", errors="replace") as stream:
        return stream.read().strip() or None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another place."""

    def redirect_request(self, *_arguments):
        return None


# What may be better in a moment: the server is busy or starting, or a proxy before it does not reach it.
_PASSING = (429, 502, 503, 504)

_DATASET_FIELDS = """name kind status owner stream release treeName description sealed backupWaived isAvailable
  badMark { reason markedBy markedAt } fileCount sizeBytes eventCount createdAt backedUpAt closedAt"""

_CHANGES = ("DATASET_STATUS", "DATASET_MARKED_BAD", "DATASET_CLEARED")


class Sweepbook:
    """A server and who asks it. `token=None` looks for one (discover_token); `token=""` asks as nobody.

    patience: seconds for which a request is tried again while the server is busy or away.
    timeout: seconds without a byte after which a connection counts as dead.
    """

    def __init__(self, url, token=None, patience=300.0, timeout=60.0):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("url must be like https://book.example.org")
        self.url = url.rstrip("/")
        self.token = discover_token() if token is None else (token or None)
        self.patience = patience
        self.timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirect)

    # -- questions ---------------------------------------------------------

    def query(self, text, **variables):
        """The data of a GraphQL query. It may be sent twice: not for mutations without idempotencyKey."""
        return self._repeated(lambda: self._query_once(text, variables))

    def dataset(self, name):
        """All about a dataset, as a dict; None when there is none that you may see."""
        query = "query ($name: String!) { dataset(name: $name) { %s } }" % _DATASET_FIELDS
        return self.query(query, name=name)["dataset"]

    def datasets(self, **conditions):
        """The datasets that fit, by name, page by page: datasets(name={"glob": "Inclppbar*"}, kind=["SKIM"])."""
        query = """query ($filter: DatasetFilter, $after: String) {
          datasets(filter: $filter, first: 200, after: $after) {
            nodes { %s } pageInfo { hasNextPage endCursor } } }""" % _DATASET_FIELDS
        after = None
        while True:
            page = self.query(query, filter=conditions, after=after)["datasets"]
            yield from page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                return
            after = page["pageInfo"]["endCursor"]

    # -- lists -------------------------------------------------------------

    def files(self, name, format="jsonl", collection="datasets", **parameters):
        """The files of a dataset as they come: dicts for jsonl, URLs for txt.

        Parameters as in docs/export.md: runs="36172-39320", goodRuns=True, since=…, asOf=…, split=…, chunk=….
        Ends with SweepbookError CUT_OFF when the list was not complete, so use what came only after the last one.
        """
        if format not in ("jsonl", "txt"):
            raise ValueError("files() reads jsonl and txt; take list_text() for other formats")
        count = 0
        told = None
        for line in self.list_text(name, format, collection, **parameters):
            if format == "jsonl":
                file = self._json_line(line, name)
                if "lfn" not in file:
                    told = file.get("count")
                    continue
                count += 1
                yield file
            elif line.startswith("# "):
                words = line.split()
                told = int(words[2]) if words[1] == "sweepbook:" else told
            else:
                count += 1
                yield line
        if told != count:
            raise _cut_off(name, "%d of %s files came" % (count, "all" if told is None else told))

    def list_text(self, name, format, collection="datasets", **parameters):
        """The lines of a list in any format, without their ends. A broken connection is an error (CUT_OFF),
        but the end of the text is yours to look at: only files() counts."""
        path = "/export/%s/%s/files?%s" % (
            urllib.parse.quote(collection),
            urllib.parse.quote(name, safe=""),
            urllib.parse.urlencode(dict(format=format, **{k: _word(v) for k, v in parameters.items() if v is not None})),
        )
        response = self._repeated(lambda: self._open(path))
        with response:
            try:
                for line in response:
                    if not line.endswith(b"\n"):
                        raise _cut_off(name, "it ends in the middle of a line")
                    yield line.rstrip(b"\r\n").decode("utf-8")
            except (OSError, HTTPException) as error:
                raise _cut_off(name, _reason(error))

    @staticmethod
    def _json_line(line, name):
        try:
            return json.loads(line)
        except ValueError:
            raise _cut_off(name, "a line is no JSON")

    # -- changes -----------------------------------------------------------

    def marker(self, name, collection="datasets"):
        """A cursor of this moment, for files(since=…) and follow(after=…) later: nothing that is still to come is missed."""
        path = "/export/%s/%s/files?format=txt" % (urllib.parse.quote(collection), urllib.parse.quote(name, safe=""))
        with self._repeated(lambda: self._open(path, method="HEAD")) as response:
            return response.headers["X-Sweepbook-Marker"]

    def follow(self, after=None, kinds=_CHANGES, dataset=None, poll=10.0, wait=True):
        """Status changes of datasets from the log, in order, for ever (until the log's end with wait=False).

        after: the `cursor` of the last event that was worked on; None = from the beginning of the log.
        Each event is handed out at least once and none is left out, whatever happens between: keep the cursor
        of what you have finished. poll: seconds between looks when there is nothing new.
        """
        query = """query ($after: String, $filter: EventFilter) {
          events(first: 200, after: $after, filter: $filter) {
            edges { cursor node { kind occurredAt actor reason fromState toState dataset { %s } } }
            pageInfo { hasNextPage } } }""" % _DATASET_FIELDS
        chosen = {"kind": list(kinds)}
        if dataset is not None:
            chosen["dataset"] = dataset
        while True:
            page = self.query(query, after=after, filter=chosen)["events"]
            for edge in page["edges"]:
                node = edge["node"]
                after = edge["cursor"]
                yield {
                    "cursor": after,
                    "kind": node["kind"],
                    "dataset": node["dataset"],
                    "from": node["fromState"],
                    "to": node["toState"],
                    "actor": node["actor"],
                    "reason": node["reason"],
                    "occurredAt": node["occurredAt"],
                }
            if page["pageInfo"]["hasNextPage"]:
                continue
            if not wait:
                return
            time.sleep(poll * random.uniform(0.75, 1.25))

    # -- the wire ----------------------------------------------------------

    def _query_once(self, text, variables):
        answer = self._open("/graphql", {"query": text, "variables": variables}, json_body=True)
        errors = answer.get("errors")
        if errors:
            extensions = errors[0].get("extensions") or {}
            raise _refusal(extensions.get("code", "INTERNAL"), errors[0].get("message", ""), extensions.get("facts"))
        return answer["data"]

    def _open(self, path, body=None, json_body=False, method=None):
        headers = {"Accept": "application/json, */*", "User-Agent": "sweepbook.py"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            response = self._opener.open(request, timeout=self.timeout)
            if not json_body:
                return response
            with response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise _of_response(error)
        except ValueError:
            raise SweepbookError("NO_ANSWER", "what answers at %s is no Sweepbook server" % self.url)
        except (OSError, HTTPException) as error:
            raise _Passing(SweepbookError("NO_ANSWER", "%s: %s" % (self.url, _reason(error))), None)

    def _repeated(self, attempt):
        """Tries again, with growing pauses and as the server asks, until the patience ends."""
        give_up = time.monotonic() + self.patience
        pause = 0.5
        while True:
            try:
                return attempt()
            except _Passing as passing:
                # Jitter: a thousand jobs that were refused together must not come back together.
                delay = random.uniform(0.5, 1.0) * pause
                if passing.retry_after is not None:
                    delay = passing.retry_after * random.uniform(1.0, 1.25)
                if time.monotonic() + delay > give_up:
                    raise passing.error from None
                time.sleep(delay)
                pause = min(pause * 2, 30.0)


class _Passing(Exception):
    """Something that may be over in a moment."""

    def __init__(self, error, retry_after):
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


_PASSING_CODES = ("RATE_LIMITED", "UNAVAILABLE", "STORE_UNAVAILABLE")


def _refusal(code, message, facts, retry_after=None):
    error = SweepbookError(code, message, facts)
    return _Passing(error, retry_after) if code in _PASSING_CODES else error


def _of_response(response):
    """The refusal in an HTTP answer that is no success."""
    retry_after = _seconds(response.headers.get("Retry-After"))
    try:
        said = json.loads(response.read(1 << 20).decode("utf-8"))
        first = said["errors"][0] if said.get("errors") else said
        extensions = first.get("extensions", first)
        code, facts = extensions["code"], extensions.get("facts")
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, IndexError):
        error = SweepbookError("NO_ANSWER", "HTTP %d from something that is no Sweepbook server" % response.status)
        return _Passing(error, retry_after) if response.status in _PASSING else error
    if response.status in _PASSING:
        return _Passing(SweepbookError(code, first["message"], facts), retry_after)
    return _refusal(code, first["message"], facts, retry_after)


def _seconds(retry_after):
    """Seconds of a Retry-After header, at most an hour; dates are left to our own pauses."""
    try:
        return min(max(float(retry_after), 0.0), 3600.0)
    except (TypeError, ValueError):
        return None


def _cut_off(name, why):
    return SweepbookError("CUT_OFF", "the list of %s was cut off (%s): it is not complete, ask for it again" % (name, why))


def _reason(error):
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def _word(value):
    return {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value


# -- command line ------------------------------------------------------------

_EXIT_CODES = {
    "NOT_FOUND": 4, "CUT_OFF": 5, "NO_ANSWER": 5, "UNAVAILABLE": 5, "STORE_UNAVAILABLE": 5, "RATE_LIMITED": 5,
    "UNAUTHENTICATED": 7, "FORBIDDEN": 7, "BAD_USER_INPUT": 2, "INVALID_CURSOR": 2, "INTERNAL": 1,
}


def _whole_list(book, options):
    """The list as text; nothing is printed before all of it has come, and retried when it is cut off."""
    for attempt in range(options.tries):
        with tempfile.SpooledTemporaryFile(max_size=1 << 26, mode="w+", encoding="utf-8") as kept:
            try:
                for url in book.files(options.name, "txt", runs=options.runs, since=options.since,
                                      goodRuns=options.good or None):
                    kept.write(url + "\n")
            except SweepbookError as error:
                if error.code != "CUT_OFF" or attempt + 1 == options.tries:
                    raise
                time.sleep(random.uniform(0.5, 1.0) * 2 ** attempt)
                continue
            kept.seek(0)
            for line in kept:
                sys.stdout.write(line)
            return


def _main(arguments=None):
    parser = argparse.ArgumentParser(prog="sweepbook.py", description="Ask a Sweepbook server.")
    parser.add_argument("--url", default=os.environ.get("SWEEPBOOK_URL", "http://127.0.0.1:4000"))
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to try again for (300)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    files = verbs.add_parser("files", help="access URLs of the files of a dataset, all or none")
    files.add_argument("name")
    files.add_argument("--runs", help="only files of these runs: 36172-39320,40001")
    files.add_argument("--good", action="store_true", help="only files of runs with the verdict GOOD")
    files.add_argument("--since", help="only files added after a time or cursor")
    files.add_argument("--tries", type=int, default=5, help="how often a list that is cut off is asked for (5)")
    show = verbs.add_parser("dataset", help="all about a dataset, JSON")
    show.add_argument("name")
    listing = verbs.add_parser("datasets", help="names of datasets")
    listing.add_argument("glob", nargs="?", help="'Inclppbar*'")
    follow = verbs.add_parser("follow", help="status changes, JSON lines, for ever")
    follow.add_argument("--after", help="cursor of the last event that was worked on")
    follow.add_argument("--no-wait", action="store_true", help="end at the end of the log")
    options = parser.parse_args(arguments)
    book = Sweepbook(options.url, patience=options.patience)
    if options.verb == "files":
        _whole_list(book, options)
    elif options.verb == "dataset":
        found = book.dataset(options.name)
        if found is None:
            raise SweepbookError("NOT_FOUND", "no dataset %s that you may see" % options.name)
        print(json.dumps(found))
    elif options.verb == "datasets":
        for found in book.datasets(**({"name": {"glob": options.glob}} if options.glob else {})):
            print(found["name"])
    else:
        for event in book.follow(after=options.after, wait=not options.no_wait):
            print(json.dumps(event), flush=True)


if __name__ == "__main__":
    try:
        _main()
        sys.stdout.flush()
    except SweepbookError as error:
        print("sweepbook.py: %s (%s)" % (error, error.code), file=sys.stderr)
        sys.exit(_EXIT_CODES.get(error.code, 6))
    except BrokenPipeError:
        # Nobody reads any more; the interpreter must not say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(130)
