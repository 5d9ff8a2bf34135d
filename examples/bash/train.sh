#!/usr/bin/env bash
# Minimises (x - target)^2 in whole numbers. The rate, in percent, is $1; all else is in the environment.
# STEP_SECONDS=0.1 makes it slow enough to watch, to stop with Ctrl-C and to take up again.
set -euo pipefail

rate=$1
steps=$PAPERGRID_CONFIG_STEPS
checkpoint=$PAPERGRID_RUN_DIR/checkpoint
events=$PAPERGRID_ATTEMPT_DIR/events.jsonl

target=$((1000 + 100 * PAPERGRID_CONFIG_SEED))
step=0 x=0
[[ -e $checkpoint ]] && read -r step x < "$checkpoint"

event() { printf '{"time": %s, "event": "%s", "step": %d, "loss": %d}\n' "$(date +%s)" "$1" "$step" "$loss" >> "$events"; }

save() {
  echo "$step $x" > "$checkpoint.new"
  mv "$checkpoint.new" "$checkpoint"
}

stop_asked=
trap 'stop_asked=yes' TERM

while ((step < steps)); do
  x=$((x + (target - x) * rate / 100))
  step=$((step + 1))
  loss=$(((target - x) ** 2))
  event step
  sleep "${STEP_SECONDS:-0}"
  if [[ $stop_asked ]]; then
    save
    event stopped
    exit 0
  fi
done

loss=$(((target - x) ** 2))
cat > "$PAPERGRID_ATTEMPT_DIR/result.json.new" << EOF
{"metrics": {"loss": $loss}, "details": {"x": $x, "target": $target, "steps": $steps}}
EOF
mv "$PAPERGRID_ATTEMPT_DIR/result.json.new" "$PAPERGRID_ATTEMPT_DIR/result.json"
