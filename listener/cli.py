"""The command line: `vitalcheck COMMAND`. Every error is one line on stderr; 2 is the exit status for usage and configuration.

serve  analyze  verify  check  studies  models  rules  config
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from listener import cli_analyze, cli_import, cli_models, cli_rules, cli_studies, cli_verify, config, console
from listener.errors import VitalCheckError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
rules_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The rules by which a model chooses a series.")
config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The configuration.")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Default: vitalcheck.toml in this folder, where there is one.")]


def _version(asked: bool) -> None:
    if asked:
        console.say(f"vitalcheck {version('vitalcheck')}")
        raise typer.Exit


@app.callback()
def vitalcheck(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Reads head studies on arrival and answers with DICOM Structured Reports. Research use, not a medical device.

    \b
    vitalcheck serve --config vitalcheck.toml       receive, analyse, report to the PACS
    vitalcheck check --config vitalcheck.toml       what would stop a study from being answered?
    vitalcheck analyze head/ --out results          the same analysis on a folder, without a network
    vitalcheck verify sr.dcm --study head/          does a report reproduce from its study?
    vitalcheck rules try head/                      which series would be read, and why no other?
    vitalcheck studies                              what became of everything that arrived
    """


@app.command()
def serve(path: ConfigOption = None) -> None:
    """Receives studies, analyses them, reports to the PACS.

    Until SIGTERM or Ctrl-C: then it stops accepting, finishes or persists what it holds, and exits 0 within 30 seconds.
    Every key of the file can be overridden from the environment as VITALCHECK_<SECTION>__<KEY>.

    \b
    vitalcheck serve --config vitalcheck.toml
    VITALCHECK_LISTENER__PORT=104 vitalcheck serve --config vitalcheck.toml
    """
    settings = config.load(path)
    from listener.service import serve as run

    raise typer.Exit(run(settings, path))


@app.command()
def check(path: ConfigOption = None, as_json: Annotated[bool, typer.Option("--json", help="One JSON line per row.")] = False) -> None:
    """Says what would stop a study from being answered.

    One table: configuration, ports, disk, database, destinations (C-ECHO, and whether they accept our reports), models, clock.
    The exit status is 1 if anything is wrong. Beside a running service it is safe.

    \b
    vitalcheck check --config vitalcheck.toml
    """
    settings = config.load(path)
    from listener import check as checks
    from listener import logs, selftest

    logs.configure("console", "error")
    rows = list(checks.run(settings))
    if as_json:
        for row in rows:
            console.say_json(row._asdict())
    else:
        console.say_table(("what", "", "detail"), rows)
    if any(row.verdict == selftest.WRONG for row in rows):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(path: ConfigOption = None, as_json: Annotated[bool, typer.Option("--json", help="One JSON line per key.")] = False) -> None:
    """Shows every value and where it comes from: default, file or environment.

    \b
    vitalcheck config show --config vitalcheck.toml
    """
    settings = config.load(path)
    if settings.listener.tls.enabled:
        from listener import tls

        tls.context(settings.listener.tls)
        tls.standing(settings.listener.tls)
    rows = config.explain(settings)
    if as_json:
        for row in rows:
            console.say_json(row._asdict())
        return
    console.say_table(("key", "value", "source"), [(row.key, _toml(row.value), row.source) for row in rows])


def _toml(value: object) -> str:
    """A value as it would be written in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return "" if value is None else str(value)


app.command()(cli_analyze.analyze)
app.command()(cli_verify.verify)
app.add_typer(cli_studies.app, name="studies")
cli_models.app.command("import")(cli_import.import_)
app.add_typer(cli_models.app, name="models")
rules_app.command("try")(cli_rules.rules_try)
app.add_typer(rules_app, name="rules")
app.add_typer(config_app, name="config")


def main(args: Sequence[str] | None = None) -> None:
    """The entry point; ends the process with the exit status."""
    try:
        status = app(args=args, prog_name="vitalcheck", standalone_mode=False)
    except VitalCheckError as error:
        console.warn(str(error))
        sys.exit(error.exit_code)
    except TyperException as error:
        sys.exit(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        from models.registry import ModelRefused  # late: --help need not wait for ONNX Runtime

        if not isinstance(error, ModelRefused):
            raise
        console.warn(str(error))
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _usage(error: TyperException) -> int:
    """Says what was wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vitalcheck"
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        console.say(message)
    else:
        console.warn(f"{message.rstrip('.')}; `{command} --help` shows how")
    return error.exit_code
