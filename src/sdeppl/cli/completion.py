"""Print a script that completes commands, options and files in your shell.

bash:  eval "$(sdeppl completion bash)"                         in ~/.bashrc
zsh:   eval "$(sdeppl completion zsh)"                          in ~/.zshrc
fish:  sdeppl completion fish > ~/.config/fish/completions/sdeppl.fish
"""

import argparse

from .errors import GOOD

HELP = "print completion for bash, zsh or fish"

BASH = """_sdeppl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words="{commands}"
    if [ "$COMP_CWORD" -gt 1 ]; then
        case "${{COMP_WORDS[1]}}" in
{cases}
            *) words="" ;;
        esac
        case "$word" in -*) ;; *) words="" ;; esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _sdeppl sdeppl"""

# compinit where ~/.zshrc has not run it, without asking about folders of others; then bash's script
ZSH = """(( $+functions[compdef] )) || { autoload -U +X compinit && compinit -i }
autoload -U +X bashcompinit && bashcompinit"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(arguments: argparse.Namespace) -> int:
    """Print the script of one shell."""
    options = _options(arguments.parser)
    if arguments.shell == "fish":
        print("\n".join(_fish(options)))
        return GOOD
    if arguments.shell == "zsh":
        print(ZSH)
    cases = "\n".join(f'            {name}) words="{" ".join(found)}" ;;' for name, found in options.items())
    print(BASH.format(commands=" ".join(options), cases=cases))
    return GOOD


def _options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """{command: its options} as the parser has them."""
    choices = next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {
        name: [option for action in command._actions for option in action.option_strings]
        + [
            str(value)
            for action in command._actions
            if not action.option_strings
            for value in action.choices or ()
        ]
        for name, command in choices.items()
    }


def _fish(options: dict[str, list[str]]) -> list[str]:
    lines = [f"complete -c sdeppl -n __fish_use_subcommand -f -a '{' '.join(options)}'"]
    for command, found in options.items():
        for option in found:
            dashes = {"--": "-l", "-": "-s"}.get("--" if option.startswith("--") else option[:1])
            what = f"{dashes} {option.lstrip('-')}" if dashes else f"-a {option}"
            lines.append(f"complete -c sdeppl -n '__fish_seen_subcommand_from {command}' {what}")
    return lines
