"""Two hundred texts that want to run, to reach out, or to break the page."""

import itertools

RUN = "window.wasRun=1"
_URLS = [
    f"javascript:{RUN}", f"JaVaScRiPt:{RUN}", f"java\tscript:{RUN}", f" javascript:{RUN}", f"javascript&colon;{RUN}",
    f"&#106;avascript:{RUN}", f"data:text/html,<script>{RUN}</script>", f"vbscript:{RUN}", f"blob:{RUN}",
    "//evil.example/x", "https://evil.example/x.png", "file:///etc/passwd",
]  # fmt: skip
_LINKS = ["[a]({})", "![a]({})", "<{}>", "[a](<{}>)", '<a href="{}">a</a>', '<iframe src="{}"></iframe>']
_TAGS = [
    "<script>{}</script>", "<img src=x onerror={}>", '<svg onload="{}">', "<svg><script>{}</script></svg>",
    "<body onload={}>", "<details open ontoggle={}>x</details>", "<input autofocus onfocus={}>",
    "<video><source onerror={}></video>", "<math><mtext><script>{}</script></mtext></math>",
    '<iframe srcdoc="<script>parent.{}</script>">', "<object data=x onerror={}>", "<marquee onstart={}>",
    "<style>@import 'https://evil.example/x.css';</style><p onclick={}>", "<link rel=stylesheet href=//evil.example>",
    "<base href=//evil.example/>", "<meta http-equiv=refresh content=0;url=//e.example>", "<form action=//e.example>",
    "<template><script>{}</script></template>", "</textarea><script>{}</script>", "<!--><script>{}</script>-->",
]  # fmt: skip
_WRAPS = ["{}", "`{}`", "**{}**", "```html\n{}\n```", "| {} |\n|---|\n| {} |", "- {}\n  - {}", "> {}", "# {}", "$${}$$"]
_BROKEN = [
    "```" * 50, "*" * 5000, "[" * 5000, "![" * 3000, "> " * 2000 + "x", "- " * 1000 + "x", "`" * 4999 + "x",
    "| " * 3000 + "\n" + "|-" * 3000, "$$\\frac{" * 500, "\\left(" * 500, "{" * 3000, "\\begin{matrix}&" * 300,
    "<" * 5000, "&#0;&#x110000;&#xd800;", "\u202e\u2066\u0000\ufffe\ud83d", "a" * 100_000, "\u0301" * 5000,
    "](" * 3000, "1. " * 1000, "~~" * 2000, "\n" * 5000, "\t" * 2000 + "x", "$" * 3001, "https://" * 1000,
    "[x]: javascript:1\n[x]", "constructor __proto__ toString", "```__proto__\nx\n```", "```constructor\nx\n```",
    "```<script>\nx\n```", "\\__proto__ \\constructor $\\constructor$ $\\hasOwnProperty{x}$", "[a](" * 2000,
]  # fmt: skip

_TAGGED = [wrap.replace("{}", tag.format(RUN)) for tag, wrap in itertools.product(_TAGS, _WRAPS[:5])]
_LINKED = [link.format(url) for url, link in itertools.product(_URLS, _LINKS)]
_WRAPPED = [wrap.replace("{}", _TAGS[1].format(RUN)) for wrap in _WRAPS]
TEXTS = [*_TAGGED, *_LINKED, *_WRAPPED, *_BROKEN]
assert len(TEXTS) >= 200
