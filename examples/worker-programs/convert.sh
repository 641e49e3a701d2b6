#!/bin/bash
# audio.convert: converts audio, with ffmpeg, and tells how far it is.
set -euo pipefail

cat > input.json
to=$(jq -r .to input.json)

refuse() {
  jq -nc --arg detail "$1" '{error: {type: "https://example.com/problems/no-audio", detail: $detail}}'
  exit
}

# A playlist names other files and addresses, and those would come back as audio. Of these formats ffmpeg reads nothing
# but the file itself.
only=(-v error -protocol_whitelist file -format_whitelist aac,aiff,flac,matroska,mov,mp3,ogg,wav)
jq -r .audio input.json | base64 --decode > original || refuse "audio is no Base64"
seconds=$(ffprobe "${only[@]}" -show_entries format=duration -of csv=p=0 original) ||
  refuse "audio is no AAC, AIFF, FLAC, MP3, MP4, Ogg, WAV or WebM that ffmpeg can read"
[[ $seconds =~ ^[0-9.]+$ ]] || refuse "audio does not say how long it is"
total=$(jq -n "$seconds * 1000000 | ceil")

ffmpeg -nostdin "${only[@]}" -i original -vn -progress pipe:1 "converted.$to" |
  while IFS='=' read -r name value; do
    if [[ $name = out_time_us && $value =~ ^[0-9]+$ ]]; then
      printf '{"progress": {"percent": %d}}\n' $((value * 100 / total))
    fi
  done

base64 --wrap=0 "converted.$to" | jq -Rc --argjson seconds "$seconds" '{result: {audio: ., seconds: $seconds}}'
