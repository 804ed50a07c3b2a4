"""The published pages: `asv publish`, and then nothing is left that a browser would load from elsewhere.

    cd asv_bench && npm ci --ignore-scripts     # once: the scripts and styles, pinned in package-lock.json
    python asv_bench/pages.py                   # asv_bench/html/, to be shown by any web server
    python asv_bench/pages.py --picture docs/asv.png

The picture, which README.md shows, needs Chromium.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "node_modules"
# The last part of an address that asv's page loads from, and the file that stands for it.
FILES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
FONTS = "bootstrap/dist/fonts"  # the style sheet asks for ../fonts
LOADED = re.compile(r'<(?:script|link|img)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]+)"[^>]*>')
# Checksums of the files elsewhere: ours are not minified.
CHECKSUMS = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')

# What README.md shows: microseconds a step, of small nets and large, which takes a logarithmic axis.
PICTURED = "#training.TrainingLoop.track_step?y-axis-scale=log"
PICTURE_SIZE = 1000, 900
# The legend stands where it covers no line, between the small nets and the large.
LEGEND = "$('#main-graph .legend').children().css('top', '54%').length"


def publish(config):
    """Run `asv publish` on an asv.conf.json; gives the folder, which is made anew."""
    subprocess.run([sys.executable, "-m", "asv", "--config", str(config), "publish"], check=True)
    html = config.parent / "html"
    for name in json.loads((html / "index.json").read_text(encoding="utf-8"))["benchmarks"]:
        graph = html / "graphs" / "summary" / f"{name}.json"
        if not graph.exists():  # never run yet: the grid would ask for it in vain
            graph.write_text("[]", encoding="utf-8")
    return html


def vendor(html, modules=MODULES):
    """Copy what the pages load from elsewhere into html/vendor, and point them there; ends where a copy is missing."""
    if not modules.is_dir():
        sys.exit(f"no {modules}: run `npm ci --ignore-scripts` in {modules.parent}")
    target, packages = html / "vendor", set()

    def local(tag):
        address = tag[1]
        source = FILES.get(address.rpartition("/")[2])
        if source is None:
            sys.exit(f"no package is known for {address}")
        packages.add(source.partition("/")[0])
        copy = target / Path(source).suffix[1:] / Path(source).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules / source, copy)
        return CHECKSUMS.sub("", tag[0]).replace(address, copy.relative_to(html).as_posix())

    for page in html.glob("*.html"):
        page.write_text(LOADED.sub(local, page.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copytree(modules / FONTS, target / "fonts", dirs_exist_ok=True)
    for package in packages:
        for licence in (modules / package).glob("LICENSE*"):
            shutil.copyfile(licence, target / f"{package}-{licence.name}")


def picture(html, file):
    """Draw the page of PICTURED in Chromium."""
    from browser import Browser, served

    with served(html) as address, Browser(*PICTURE_SIZE) as chromium:
        chromium.open(f"{address}/index.html{PICTURED}", "$('#main-graph').data('plot').getData().length")
        chromium.evaluate(LEGEND)
        chromium.picture(file, chromium.evaluate("$('#overview').offset().top"))
        if chromium.problems:
            sys.exit("\n".join(chromium.problems))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="also draw the graph that README.md shows")
    options = parser.parse_args()
    html = publish(HERE / "asv.conf.json")
    vendor(html)
    if options.picture:
        picture(html, options.picture)
    print(options.picture or html / "index.html")


if __name__ == "__main__":
    main()
