"""The style sheet of the report's page: light and dark by the reader's setting, black on white when printed."""

STYLE = """
:root{--ink:#17212b;--soft:#55616d;--paper:#fff;--panel:#f5f7f9;--line:#d3dae1;--blue:#1f5fa8;--orange:#b8560f;
--green:#1b6e4b;--red:#a3201d;--redbg:#fdf1f0;--amber:#7a4d00;--amberbg:#fdf6e7;--violet:#6a4c9c;--teal:#197278;
--grey:#78838e;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#e7ecf1;--soft:#a9b4bf;--paper:#12171d;--panel:#1a2129;--line:#36414c;
--blue:#6ba7ea;--orange:#f0a15e;--green:#63c79a;--red:#ff9a94;--redbg:#331a1a;--amber:#f0c36a;--amberbg:#2e2614;
--violet:#b79be8;--teal:#62c5cc;--grey:#8f9aa5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.2rem 1.5rem 3rem;max-width:62rem;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
header{border-bottom:3px solid var(--ink);margin-bottom:1.4rem;padding-bottom:.7rem}
h1{font-size:1.7rem;margin:0;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:2.6rem 0 .3rem;padding-top:1.1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.5rem 0 .3rem}
p{margin:.35rem 0}
.soft,caption,.tiles dt,.tiles span,footer{color:var(--soft)}
a{color:var(--blue)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.7rem;margin:1.2rem 0}
.tiles div{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem}
.tiles dt{font-size:.8rem}
.tiles dd{margin:0}
.tiles b{display:block;font-size:1.25rem;line-height:1.3;font-variant-numeric:tabular-nums}
.tiles span{display:block;font-size:.78rem;line-height:1.35}
.verdict{display:inline-block;border:1px solid currentColor;border-radius:4px;padding:.05rem .55rem;font-weight:600;
font-size:.85rem}
.held{color:var(--green)}.broken{color:var(--red)}.unchecked,.undecided{color:var(--amber)}.not_serving{color:var(--soft)}
ul.cautions{list-style:none;margin:.8rem 0;padding:0}
.cautions li{border-left:4px solid var(--amber);background:var(--amberbg);padding:.45rem .8rem;margin:.4rem 0}
.cautions.grave li{border-color:var(--red);background:var(--redbg)}
.scroll{overflow-x:auto;margin:.6rem 0 1rem}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:.85rem;padding-bottom:.25rem}
td{overflow-wrap:break-word}
th,td{text-align:left;vertical-align:top;padding:.32rem .6rem .32rem 0;border-bottom:1px solid var(--line);
font-weight:normal}
thead th{font-weight:600;border-bottom:2px solid var(--ink)}
tbody th{font-weight:600}
.n{text-align:right}
figure{margin:1rem 0;break-inside:avoid}
figcaption{font-size:.88rem;margin-bottom:.2rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:0 1.8rem}
svg{display:block;width:100%;height:auto;max-width:42rem}
svg text{font-size:13px;fill:var(--ink);stroke:var(--paper);stroke-width:4px;paint-order:stroke;stroke-linejoin:round}
.track{fill:var(--panel);stroke:var(--line)}
.whisker{stroke:var(--ink);stroke-width:2;fill:none}
.mark{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:3 2}
.grid{stroke:var(--line)}
.span{stroke-width:3;fill:none}
.k0{fill:var(--blue);stroke:var(--blue)}.k1{fill:var(--orange);stroke:var(--orange)}.k2{fill:var(--green);stroke:var(--green)}
.k3{fill:var(--violet);stroke:var(--violet)}.k4{fill:var(--teal);stroke:var(--teal)}.k5{fill:var(--grey);stroke:var(--grey)}
.risk{fill:var(--orange)}.riskbroken{fill:var(--red)}
rect.k0,rect.k1,rect.k2,rect.k3,rect.k4,rect.k5{stroke:none}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.3rem 0;padding:0;font-size:.85rem}
.legend svg{display:inline-block;width:.75rem;height:.75rem;margin-right:.4rem}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--blue)}
footer{border-top:1px solid var(--line);margin-top:2.5rem;padding-top:.8rem;font-size:.84rem}
footer dt{font-weight:600;color:var(--ink)}
footer dd{margin:0 0 .35rem}
@media print{:root{--ink:#000;--soft:#444;--paper:#fff;--panel:#f4f4f4;--line:#bbb;--blue:#1f5fa8;--orange:#b8560f;
--green:#1b6e4b;--red:#a3201d;--redbg:#fff;--amber:#7a4d00;--amberbg:#fff;--violet:#6a4c9c;--teal:#197278;--grey:#78838e}
body{padding:0;max-width:none;font-size:9.5pt}
.pair{grid-template-columns:1fr 1fr}table{font-size:8.5pt}svg,.tiles div,.cautions li{print-color-adjust:exact}
h2,h3,figcaption,caption{break-after:avoid}tr,li,.tiles{break-inside:avoid}.scroll{overflow:visible}thead{display:
table-header-group}a{color:inherit;text-decoration:none}@page{margin:16mm}}
"""
