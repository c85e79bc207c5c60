// The request of the form as a line to copy. The key itself is never in it: it is read from
// PLAUDIT_CLIENT_API_KEY where the line runs.

const KEY = "PLAUDIT_CLIENT_API_KEY";

export function curl(origin, request, withKey) {
  const header = withKey ? ` \\\n  -H "Authorization: Bearer $${KEY}"` : "";
  return `curl -s ${origin}${request.route}${header} -d ${quoted(JSON.stringify(request.body, null, 2))}`;
}

// For a POSIX shell.
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export function python(origin, request, withKey) {
  const { items, ...options } = request.body;
  const method = request.route === "/score" ? "score" : "ensemble_score";
  const lines = [
    ...(withKey ? ["import os", ""] : []),
    "from plaudit import RewardClient",
    "",
    ...(withKey ? [`key = os.environ["${KEY}"]`] : []),
    `with RewardClient(${literal(origin)}${withKey ? ", api_key=key" : ""}) as client:`,
    `    answer = client.${method}(`,
    "        [",
    ...items.map((item) => `            (${literal(item.prompt)}, ${literal(item.response)}),`),
    "        ],",
    ...Object.entries(options).map(([name, value]) => `        ${name}=${literal(value)},`),
    "    )",
    "    print(answer.rewards)",
  ];
  return lines.join("\n");
}

export function trl(origin, request, withKey) {
  const { items, weights, ...options } = request.body;
  const lines = [
    "from plaudit.integrations.trl import AsyncReward",
    "",
    ...(withKey ? [`# The key is read from ${KEY}.`] : []),
    ...(weights ? ["# Weights are those of the bundle's own file."] : []),
    "reward = AsyncReward(",
    `    ${literal(origin)},`,
    ...Object.entries(options).map(([name, value]) => `    ${name}=${literal(value)},`),
    ")",
    "# trainer = trl.GRPOTrainer(…, reward_funcs=reward)",
  ];
  return lines.join("\n");
}

// Strings and numbers of JSON mean the same in Python, and so do objects of them.
const literal = (value) => JSON.stringify(value);
