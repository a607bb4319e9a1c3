// One message by nodemailer, as JSON on standard input tells.
const nodemailer = require(process.argv[2]);
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const options = {
  host: asked.host, port: asked.port, name: "client.shop.test",
  secure: asked.tls === "implicit", requireTLS: asked.tls === "starttls", ignoreTLS: asked.tls === "none",
  tls: { ca: require("fs").readFileSync(asked.ca) },
};
if (asked.mechanism) {
  if (asked.mechanism === "XOAUTH2") {
    options.auth = { type: "OAuth2", user: asked.user, accessToken: asked.password };
  } else {
    options.auth = { user: asked.user, pass: asked.password };
    options.authMethod = asked.mechanism;
  }
}
const message = {
  envelope: { from: asked.sender, to: asked.recipients },
  raw: require("fs").readFileSync(asked.content),
};
if (asked.notify) {
  message.dsn = { id: asked.envid, return: asked.ret.toLowerCase(), notify: asked.notify.split(",").map((one) => one.toLowerCase()), recipient: asked.sender };
  message.envelope.dsn = message.dsn;
}
nodemailer.createTransport(options).sendMail(message).then(
  (done) => { console.log(done.response); if (done.rejected.length) process.exit(2); },
  (error) => { console.error(error.message); process.exit(1); });
