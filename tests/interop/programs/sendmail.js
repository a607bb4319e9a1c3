// One raw message by nodemailer's sendmail transport: nodemailer, the command, the content, sender, recipients.
const [, , where, path, content, from, ...to] = process.argv;
require(where).createTransport({ sendmail: true, newline: "unix", path }).sendMail(
  { envelope: { from, to }, raw: require("fs").readFileSync(content) },
  (error) => { if (error) { console.error(error.message); process.exit(1); } });
