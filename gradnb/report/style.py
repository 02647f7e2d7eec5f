"""The style sheet of the html report: every rule is bound to ``.gradnb``, every colour follows the front end's theme."""

# Text keeps the colour of the notebook around it and the tints are transparent, so one sheet serves light and dark.
# The doubled class outweighs JupyterLab's own rules for tables and code in rendered html.
CSS = """
.gradnb{--gn-line:var(--jp-border-color2,var(--vscode-panel-border,var(--colab-border-color,rgba(128,128,128,.35))));
--gn-code:var(--jp-code-font-family,var(--vscode-editor-font-family,ui-monospace,SFMono-Regular,Menlo,Consolas,monospace));
--gn-bad:#D55E00;--gn-warn:#E69F00;--gn-good:#0072B2;--gn-tint:rgba(128,128,128,.1);
font-size:14px;line-height:1.5;max-width:860px;color:inherit;overflow-wrap:anywhere}
.gradnb.gradnb p,.gradnb.gradnb ul,.gradnb.gradnb pre,.gradnb.gradnb figure{margin:.45em 0;padding:0}
.gradnb.gradnb ul{padding-left:1.4em}
.gradnb.gradnb .gradnb-verdict{font-size:15.5px;font-weight:600;margin:.2em 0 .8em;padding:.55em .8em;
border-left:5px solid var(--gn-good);background:rgba(0,114,178,.1);border-radius:4px}
.gradnb.gradnb .gradnb-verdict.gradnb-error{border-color:var(--gn-bad);background:rgba(213,94,0,.12)}
.gradnb.gradnb .gradnb-verdict.gradnb-warning{border-color:var(--gn-warn);background:rgba(230,159,0,.13)}
.gradnb.gradnb .gradnb-sign{display:inline-block;width:1.35em;height:1.35em;line-height:1.35em;text-align:center;
border-radius:50%;color:#fff;background:var(--gn-good);margin-right:.5em;font-size:.9em}
.gradnb.gradnb .gradnb-error .gradnb-sign{background:#B84E00}
.gradnb.gradnb .gradnb-warning .gradnb-sign{background:var(--gn-warn);color:#000}
.gradnb.gradnb .gradnb-card{border:1px solid var(--gn-line);border-left:4px solid var(--gn-bad);border-radius:4px;
padding:.6em .9em;margin:0 0 .8em}
.gradnb.gradnb .gradnb-card.gradnb-warning{border-left-color:var(--gn-warn)}
.gradnb.gradnb .gradnb-card.gradnb-info{border-left-color:var(--gn-good)}
.gradnb.gradnb .gradnb-title{font-weight:600;font-size:15px;margin:0 0 .2em}
.gradnb.gradnb .gradnb-badge{display:inline-block;font:600 12px/1.5 var(--gn-code);padding:0 .5em;border-radius:3px;
margin-right:.5em;border:1px solid var(--gn-bad);background:rgba(213,94,0,.14)}
.gradnb.gradnb .gradnb-warning .gradnb-badge{border-color:var(--gn-warn);background:rgba(230,159,0,.16)}
.gradnb.gradnb .gradnb-info .gradnb-badge{border-color:var(--gn-good);background:rgba(0,114,178,.14)}
.gradnb.gradnb .gradnb-place{opacity:.8;font-size:13px;margin:0}
.gradnb.gradnb code{font:13px var(--gn-code);color:inherit;background:var(--gn-tint);padding:.05em .3em;border-radius:3px;border:0}
.gradnb.gradnb pre{font:13px/1.55 var(--gn-code);color:inherit;background:var(--gn-tint);border-radius:4px;padding:.5em .7em;
overflow-x:auto;white-space:pre;overflow-wrap:normal;border:0}
.gradnb.gradnb .gradnb-n{opacity:.6;user-select:none}
.gradnb.gradnb .gradnb-hot{display:inline-block;min-width:100%;background:rgba(213,94,0,.13);margin:0 -.7em;padding:0 .7em}
.gradnb.gradnb mark{color:inherit;background:rgba(213,94,0,.25);text-decoration:underline wavy #D55E00;
text-decoration-skip-ink:none;text-underline-offset:3px;border-radius:2px;font-weight:600;padding:0}
.gradnb.gradnb .gradnb-warning mark{background:rgba(230,159,0,.28);text-decoration-color:#E69F00}
.gradnb.gradnb .gradnb-warning .gradnb-hot{background:rgba(230,159,0,.14)}
.gradnb.gradnb details{border-top:1px solid var(--gn-line);padding:.35em 0;margin:0}
.gradnb.gradnb details details{border:0}
.gradnb.gradnb summary{cursor:pointer;font-weight:600;padding:.15em 0}
.gradnb.gradnb summary:focus-visible{outline:2px solid var(--gn-good);outline-offset:2px}
.gradnb.gradnb .gradnb-scroll{overflow-x:auto}
.gradnb.gradnb table{border-collapse:collapse;border:0;margin:.4em 0;font-size:13px;width:auto;color:inherit;table-layout:auto}
.gradnb.gradnb th,.gradnb.gradnb td{text-align:left;padding:.2em .9em .2em 0;border:0;border-bottom:1px solid var(--gn-line);
vertical-align:top;white-space:nowrap;overflow-wrap:normal;max-width:none;background:none}
.gradnb.gradnb th{font-weight:600}
.gradnb.gradnb tbody tr:nth-child(n),.gradnb.gradnb tbody tr:nth-child(n):hover{background:none}
.gradnb.gradnb tbody tr.gradnb-bad:nth-child(n){background:rgba(213,94,0,.11)}
.gradnb.gradnb td.gradnb-c,.gradnb.gradnb .gradnb-c{font-family:var(--gn-code);font-size:12.5px}
.gradnb.gradnb tr.gradnb-dim td{opacity:.7}
.gradnb.gradnb .gradnb-picture[hidden]{display:block!important}
.gradnb.gradnb .gradnb-picture svg{display:block;width:100%;height:auto;max-width:760px}
.gradnb.gradnb img.gradnb-still{display:none}
.gradnb.gradnb figcaption{font-size:13px;opacity:.8}
.gradnb.gradnb .gradnb-foot{font-size:12.5px;opacity:.75;border-top:1px solid var(--gn-line);padding-top:.4em}
@media print{.gradnb.gradnb details::details-content{content-visibility:visible;display:block;block-size:auto}
.gradnb.gradnb .gradnb-card{break-inside:avoid}}
""".strip()

PAGE = """
:root{color-scheme:light dark}
body{margin:0;padding:2rem 1.2rem;background:#fff;color:#1f2328;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:860px;margin:0 auto}
@media (prefers-color-scheme:dark){body{background:#15181c;color:#e6e8ea}}
@media print{body{background:#fff;color:#000;padding:0}}
""".strip()
