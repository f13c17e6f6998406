"""Writes `generated/LAYOUT-OPERATION.case`: one gateway in many layouts, and nine edits of each.

Input and expected text are the same document rendered twice by the layout's own rules, once before and once after the
operation. The editing engine has no part in it, so that a case says what a careful person would have typed, not what
the engine happens to do. What an entry owns (its comments) is rendered with it; what is new has no comments.

Run `python tests/config_cases/generate.py` to write the files, with `--check` to compare them with what would be written.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

FOLDER = Path(__file__).parent / "generated"
SPECIAL = frozenset("{}[],#:&*!|>%@`\"'")


@dataclass(frozen=True)
class Entry:
    name: str
    fields: dict
    fresh: frozenset = frozenset()
    """The keys that the operation added; "" when it added the whole entry."""

    @property
    def is_new(self):
        return "" in self.fresh


PROVIDERS = (
    Entry("deepgram", {"type": "deepgram", "api_key": "${DEEPGRAM_API_KEY}"}),
    Entry("openai", {"api_key": "${OPENAI_API_KEY}", "base_url": "https://one.example/v1", "enabled": True}),
    Entry("house", {"type": "ollama", "base_url": "https://two.example"}),
)
SPEECH = (
    Entry("deepgram/nova-3", {"provider": "deepgram", "default_language": "en", "model": "nova-3"}),
    Entry("openai/whisper", {"provider": "openai", "model": "whisper-1"}),
)
LANGUAGE = (Entry("openai/gpt", {"provider": "openai", "model": "gpt-4.1-mini"}),)
PROJECTS = (
    Entry("support", {"name": "Support", "daily_budget": 25.5, "tags": ["prod", "eu"]}),
    Entry("sales", {"name": "Sales", "daily_budget": 5, "tags": ["outbound", "eu"]}),
    Entry("pilot", {"name": "Pilot phase", "tags": ["test"]}),
)
DOCUMENT = {
    ("providers",): PROVIDERS,
    ("models", "stt"): SPEECH,
    ("models", "llm"): LANGUAGE,
    ("projects",): PROJECTS,
}

ADDED = {
    ("providers",): Entry("groq", {"type": "groq", "api_key": "${GROQ_API_KEY}"}),
    ("models", "stt"): Entry("groq/fast", {"provider": "groq", "model": "fast", "display_name": "Fast one"}),
    ("projects",): Entry("night", {"name": "Night shift", "daily_budget": 7.5, "tags": ["night", "eu"]}),
}
UPDATED = {
    ("providers",): ("openai", {"base_url": "https://three.example/v1"}, ()),
    ("models", "stt"): ("deepgram/nova-3", {"default_language": "de", "enabled": False}, ()),
    ("projects",): ("sales", {"name": "Sales calls", "tags": ["outbound", "eu", "us"]}, ("daily_budget",)),
}
DELETED = {("providers",): "openai", ("models", "stt"): "deepgram/nova-3", ("projects",): "pilot"}
"""One from the middle, the first, and the last."""
KINDS = {"provider": ("providers",), "model": ("models", "stt"), "project": ("projects",)}


@dataclass(frozen=True)
class Layout:
    """The rules of one way to write the file. Comments are templates with the entry's name."""

    name: str
    about: str
    form: str = "block"
    """block; entry: `name: {...}`; section: `providers: {...}`; lines: that with an entry to a line; json; empty."""
    steps: tuple = (2, 2, 2)
    """Indentation steps in providers, models and projects."""
    dash: int | None = None
    """How far a list's dashes stand to the right of its key; None: lists as [a, b]."""
    key_quote: str = ""
    quotes: dict = field(default_factory=dict)
    """Quote of the values of a key; "" for all keys not named."""
    head: tuple = ()
    foot: tuple = ()
    above: tuple = ()
    above_field: tuple = ()
    at_zero: tuple = ()
    """Comments at column 0 between an entry's key and its fields."""
    beside: str = ""
    below: tuple = ()
    """At the fields' indentation behind the last field."""
    opening: tuple = ()
    """Lines below a section's key, at the entries' indentation."""
    closing: tuple = ()
    """Lines below a section's last entry, at the entries' indentation."""
    between: tuple = ()
    fresh_between: tuple | None = None
    """What separates a new entry, when that is not `between`."""
    sections: tuple = ("",)
    """Lines between sections; templates with the section's name."""
    banner: tuple = ()
    prop: str = ""
    """Anchor or tag of every entry; a template."""
    value_tag: str = ""
    lead: tuple = ()
    """A field every old entry begins with: its line, and what it means."""
    extra: tuple = ()
    """A field every old entry ends with: its lines, and what it means."""
    comma: str = ","
    """Form lines: what stands behind the last entry."""
    colon: str = ": "
    rename: dict = field(default_factory=dict)
    only: bool = False
    """One entry in each section."""
    bare: str = ""
    """Form empty: what stands behind the section's key."""
    newline: str = ""
    bom: str = ""
    final: str = ""
    operations: tuple = ("add", "update", "delete")

    # -- values ------------------------------------------------------------------------------------------------

    def word(self, text, quote, *, flow):
        text = self.rename.get(text, text)
        if not quote and flow and SPECIAL & set(text):
            quote = '"'
        return quote + text + quote

    def scalar(self, value, key, *, flow):
        if not isinstance(value, str):
            return json.dumps(value)
        return self.word(value, self.quotes.get(key, self.quotes.get("", "")), flow=flow)

    def value(self, value, key, *, flow):
        if isinstance(value, list):
            return "[" + ", ".join(self.scalar(item, key, flow=True) for item in value) + "]"
        return self.scalar(value, key, flow=flow)

    def key(self, name, *, flow=False):
        return self.word(name, self.key_quote, flow=flow)

    def braces(self, entry):
        pairs = [f"{self.key(k, flow=True)}: {self.value(v, k, flow=True)}" for k, v in entry.fields.items()]
        return f"{self.key(entry.name, flow=True)}: {{{', '.join(pairs)}}}"

    # -- lines -------------------------------------------------------------------------------------------------

    def entry(self, entry, indent, step):
        pad, deep = " " * indent, " " * (indent + step)
        name = self.rename.get(entry.name, entry.name)

        def notes(templates, before):
            return [] if entry.is_new else [before + line.format(name) for line in templates]

        beside = "" if entry.is_new else self.beside.format(name)
        if self.form == "entry":
            return [*notes(self.above, pad), pad + self.braces(entry) + beside]
        prop = "" if entry.is_new else self.prop.format(name.replace("/", "-"))
        lines = [
            *notes(self.above, pad),
            f"{pad}{self.key(entry.name)}:{prop}{beside}",
            *notes(self.at_zero, ""),
        ]
        lines += notes(self.lead[:1], deep)
        for key in (k for k in entry.fields if not (entry.is_new or k in entry.fresh)):
            lines += notes(self.above_field, deep)
            lines += self.field(key, entry.fields[key], deep, beside, fresh=False)
        lines += notes(self.extra[:-1], deep)
        for key in (k for k in entry.fields if entry.is_new or k in entry.fresh):
            lines += self.field(key, entry.fields[key], deep, "", fresh=True)
        return lines + notes(self.below, deep)

    def field(self, key, value, pad, beside, *, fresh):
        start = pad + self.key(key)
        if isinstance(value, list) and self.dash is not None:
            dash = pad + " " * self.dash + "- "
            return [start + ":" + beside, *(dash + self.scalar(item, key, flow=False) for item in value)]
        tag = "" if fresh or not isinstance(value, str) else self.value_tag
        return [start + (": " if fresh else self.colon) + tag + self.value(value, key, flow=False) + beside]

    # -- sections ----------------------------------------------------------------------------------------------

    def group(self, name, entries, indent, step):
        """A mapping of entries under its key, which stands at `indent`."""
        pad, start = " " * indent, " " * indent + self.key(name) + ":"
        beside = self.beside.format(name)
        if self.form == "empty" and not entries:
            return [start + self.bare]
        if not entries:
            lines = [start + " {}" + beside]
        elif self.form == "section":
            return [f"{start} {{{', '.join(self.braces(entry) for entry in entries)}}}{beside}"]
        elif self.form == "lines":
            commas = [","] * (len(entries) - 1) + [self.comma]
            inner = replace(self, form="entry", beside="")
            lines = [start + " {" + beside]
            for entry, comma in zip(entries, commas, strict=True):
                lines += inner.entry(entry, indent + step, step)
                lines[-1] += comma + ("" if entry.is_new else self.beside.format(entry.name))
            return [*lines, pad + "}"]
        else:
            lines = [start + beside]
        inside = " " * (indent + step)
        lines += [line and inside + line for line in self.opening]
        for number, entry in enumerate(entries):
            fresh = entry.is_new and self.fresh_between is not None
            lines += (self.fresh_between if fresh else self.between) if number else ()
            lines += self.entry(entry, indent + step, step)
        return lines + [line and inside + line for line in self.closing]

    def models(self, document, step):
        groups = {path[1]: entries for path, entries in document.items() if path[0] == "models"}
        if self.form == "empty" and not any(groups.values()):
            return [self.key("models") + ":" + self.bare]
        lines = [self.key("models") + ":" + self.beside.format("models")]
        for number, (name, entries) in enumerate(groups.items()):
            if entries or self.form != "empty":
                lines += self.between if number else ()
                lines += self.group(name, entries, step, step)
        return lines

    def render(self, document):
        if self.form == "json":
            tree = {}
            for path, entries in document.items():
                here = tree.setdefault(path[0], {})
                here = here.setdefault(path[1], {}) if path[1:] else here
                here.update({entry.name: entry.fields for entry in entries})
            return json.dumps(tree, indent=self.steps[0], ensure_ascii=False) + "\n"
        one, two, three = self.steps
        parts = {
            "providers": self.group("providers", document["providers",], 0, one),
            "models": self.models(document, two),
            "projects": self.group("projects", document["projects",], 0, three),
        }
        lines = list(self.head)
        for number, (name, part) in enumerate(parts.items()):
            lines += [*(self.sections if number else ()), *(line.format(name) for line in self.banner), *part]
        return "".join(line + "\n" for line in [*lines, *self.foot])

    # -- cases -------------------------------------------------------------------------------------------------

    def meaning(self, entry):
        def shown(value):
            if isinstance(value, list):
                return [shown(item) for item in value]
            return self.rename.get(value, value) if isinstance(value, str) else value

        named = {key: shown(value) for key, value in entry.fields.items()}
        if entry.is_new:
            return named
        return {**(self.lead[-1] if self.lead else {}), **named, **(self.extra[-1] if self.extra else {})}

    def document(self):
        if self.form == "empty":
            return dict.fromkeys(DOCUMENT, ())
        if self.only:
            return {path: entries[:1] for path, entries in DOCUMENT.items()}
        return DOCUMENT

    def operate(self, operation, path):
        """Return the name of the entry, its new meaning (None: deleted), and the document afterwards."""
        document = self.document()
        entries = list(document[path])
        if operation == "add":
            changed = replace(ADDED[path], fresh=frozenset({""}))
            entries.append(changed)
        else:
            wanted = DELETED[path] if operation == "delete" else UPDATED[path][0]
            index = 0 if self.only else [entry.name for entry in entries].index(wanted)
            changed = entries.pop(index)
            if operation == "update":
                _, given, gone = UPDATED[path]
                fields = {key: value for key, value in {**changed.fields, **given}.items() if key not in gone}
                changed = Entry(changed.name, fields, frozenset(given) - set(changed.fields))
                entries.insert(index, changed)
        value = None if operation == "delete" else self.meaning(changed)
        return self.rename.get(changed.name, changed.name), value, {**document, path: tuple(entries)}

    def cases(self):
        for operation in self.operations:
            for kind, path in KINDS.items():
                name, value, after = self.operate(operation, path)
                edit = {"path": [*path, name], **({"delete": True} if value is None else {"value": value})}
                options = {"newline": self.newline, "final-newline": self.final, "bom": self.bom}
                head = [
                    f"# {operation} a {kind}: {self.about}",
                    "edits: " + json.dumps([edit], ensure_ascii=False),
                ]
                head += [f"{option}: {setting}" for option, setting in options.items() if setting]
                before, expected = self.render(self.document()), self.render(after)
                text = "\n".join(head) + f"\n<<<<<< input\n{before}====== expected\n{expected}>>>>>> end\n"
                yield f"{self.name}-{operation}-{kind}.case", text


CRLF = {"newline": "crlf"}
# fmt: off
LAYOUTS = (
    Layout("plain", "two spaces, no comments"),
    Layout("indent-1", "one space", steps=(1, 1, 1), dash=1, head=("# one space",)),
    Layout("indent-mixed", "another indentation in every section", steps=(8, 1, 3), dash=0, foot=("stacks: {}",)),
    Layout("comments-above", "banners, comments above entries and fields", above=("# about {0}", "#   key: {0}"),
           banner=("# ---- {0} " + "-" * 40, ""), above_field=("# a field",)),
    Layout("comments-beside", "comments beside every line, behind tabs", beside=" \t# {0}", dash=2),
    Layout("comments-below", "comments below entries", below=("# old: {0}", "  # deeper"), closing=("# more here",)),
    Layout("comments-zero", "comments at column 0 inside entries", at_zero=("# of {0}",), opening=("# all", "")),
    Layout("blank-one", "blank lines between entries", between=("",), sections=("", ""), opening=("",)),
    Layout("blank-two", "two blank lines between entries, one of spaces", between=("    ", ""),
           fresh_between=("", ""), sections=("", "  ", "")),
    Layout("bom-crlf", "BOM and CRLF", bom="yes", above=("# {0}",), beside=" # {0}", dash=2, **CRLF),
    Layout("no-final-newline", "no line end at the end", final="no", beside="  # {0}"),
    Layout("crlf-no-final-newline", "CRLF, no line end at the end", final="no", dash=0, steps=(4, 4, 4), **CRLF),
    Layout("quotes-single", "all strings and keys in single quotes", quotes={"": "'"}, key_quote="'", bom="yes",
           head=("# gateway",)),
    Layout("quotes-double", "all strings and keys in double quotes", quotes={"": '"'}, key_quote='"', dash=0),
    Layout("quotes-mixed", "quotes by key", quotes={"api_key": '"', "name": "'", "provider": '"', "tags": "'"}),
    Layout("flow-entries", "an entry to a line", form="entry", above=("# {0}",), beside="  # {0}"),
    Layout("flow-sections", "a section to a line", form="section", beside=" # {0}"),
    Layout("flow-lines", "braces over lines, comma at the end", form="lines", above=("# {0}",)),
    Layout("flow-lines-bare", "braces over lines, no comma at the end", form="lines", comma="", beside="  # {0}"),
    Layout("json", "JSON", form="json"),
    Layout("merge", "merge keys", head=("x-shared: &shared", "  region: eu  # all", ""),
           lead=("<<: *shared", {"region": "eu"}), beside="  # {0}"),
    Layout("anchors", "anchors on entries", prop=" &{0}", above=("# *{0}",), quotes={"": '"'}, steps=(4, 2, 3)),
    Layout("tags", "tags", prop=" !!map", value_tag="!!str ", head=("%YAML 1.1", "---"), foot=("...",)),
    Layout("markers", "document markers", head=("# head", "---  # begin"), foot=("...", "# rest"), between=("",)),
    Layout("block-text", "block texts", extra=(
        "notes: |", "  Changed monthly.", "", "  # no comment", {"notes": "Changed monthly.\n\n# no comment\n"})),
    Layout("block-folded", "folded texts with an indentation indicator", between=("",), extra=(
        "notes: >2-  # for people", "     far", "  near", {"notes": "   far\nnear"})),
    Layout("block-keep", "texts whose blank lines count", sections=(), foot=("stacks: {}",), extra=(
        "notes: |+", "  Kept.", "", {"notes": "Kept.\n\n"})),
    Layout("aligned", "values in columns", colon=":       ", operations=("update", "delete"), above=("# {0}",)),
    Layout("unicode", "names and comments beyond the BMP", above=("# 🐙 {0} 𠮷",), beside="  # é 𝄞", between=("",),
           rename={"openai": "𠮷野家", "support": "🎧-support", "night": "🌙", "sales": "продажи",
                   "Sales calls": "Звонки 📞", "groq": "グロック"}),
    Layout("single", "one entry in each section", only=True, operations=("add", "delete"), above=("# {0}",)),
    Layout("empty-braces", "empty sections", form="empty", dash=2, bare=" {}", operations=("add",)),
    Layout("empty-null", "sections of null", form="empty", dash=2, bare=" null", operations=("add",), **CRLF),
    Layout("empty-tilde", "sections of ~", form="empty", dash=2, bare=" ~", operations=("add",), bom="yes"),
    Layout("empty-bare", "sections without a value", form="empty", dash=2, operations=("add",), final="no"),
)
# fmt: on


def main(arguments):
    wanted = dict(case for layout in LAYOUTS for case in layout.cases())
    present = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.case")}
    wrong = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
    if "--check" in arguments:
        sys.stdout.writelines(f"{name}: differs from what generate.py writes\n" for name in wrong)
        return bool(wrong)
    FOLDER.mkdir(exist_ok=True)
    for name in wrong:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], "utf-8", newline="\n")
        else:
            (FOLDER / name).unlink()
    sys.stdout.write(f"{len(wanted)} cases, {len(wrong)} files changed\n")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
