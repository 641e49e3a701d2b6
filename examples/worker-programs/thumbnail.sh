#!/bin/bash
# image.thumbnail: makes an image small, with ImageMagick.
set -euo pipefail

cat > input.json
format=$(jq -r .format input.json)
width=$(jq -r .width input.json)

refuse() { # An error that another attempt would not mend. What ImageMagick said is in the job's log.
  jq -nc --arg detail "$1" '{error: {type: "https://example.com/problems/no-image", detail: $detail}}'
  exit
}

jq -r .image input.json | base64 --decode > original || refuse "image is no Base64"
# ImageMagick 7, or 6.
magick=$(command -v magick || command -v convert)
# The format stands before each name. ImageMagick would guess it otherwise, and some guesses run other programs.
"$magick" "$format:original" -auto-orient -thumbnail "${width}x>" "$format:small" >&2 || refuse "image is no $format"
read -r width height < <("$magick" "$format:small" -format '%w %h\n' info:)

base64 --wrap=0 small |
  jq -Rc --argjson width "$width" --argjson height "$height" '{result: {image: ., width: $width, height: $height}}'
