#!/usr/bin/env bash
# Installs the Debian packages that tests use as peers and judges. Without root, or where apt fails, it says which are missing
# and goes on: the tests that need them skip by name.
set -uo pipefail

packages=(
    orthanc orthanc-dicomweb            # a PACS: end-to-end tests
    chromium                            # reads reports in the viewer as people do
    dcmtk                               # storescu, echoscu, dsrdump, dcmcjpeg: other people's DICOM
    libgdcm-tools libopenjp2-tools openjph-tools  # gdcmconv, opj_compress, ojph_compress: other people's encoders
    dicom3tools                         # dciodvfy, dcentvfy: judges of IODs
    poppler-utils                       # pdftotext: reads the PDF
    libpixelmed-java default-jre-headless  # DicomSRValidator: judge of TID 1500
    strace                              # order of system calls in the durable commit
)
command -v npm >/dev/null || packages+=(npm)  # fetches the viewer; not everybody's npm is Debian's

command -v dpkg-query >/dev/null || { echo "tests: no Debian here; tests that need ${packages[*]} skip by name" >&2; exit 0; }

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -ne 0 ]]; then
    echo "tests: these Debian packages are missing, and tests that need them skip by name: ${missing[*]}" >&2
    echo "       install them with: sudo apt-get install ${missing[*]}" >&2
    exit 0
fi

# No daemon is to start because of a test: Debian's orthanc would listen on all addresses (policy-rc.d(8): 101 = not allowed).
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

echo "tests: installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --quiet --quiet --yes --no-install-recommends "${missing[@]}")
log=$(mktemp)
if ! { "${install[@]}" || { apt-get update --quiet --quiet && "${install[@]}"; }; } </dev/null >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "tests: apt-get could not install them (its last words above); tests that need them skip by name: ${missing[*]}" >&2
fi
rm -f "$log"
exit 0
