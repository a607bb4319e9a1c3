// One message by Jakarta Mail: properties in a file, then the content, the sender and the recipients.

import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.FileInputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** Sends. */
public class Send {
    public static void main(String[] given) throws Exception {
        Properties properties = new Properties();
        properties.load(new FileInputStream(given[0]));
        Session session = Session.getInstance(properties);
        List<InternetAddress> recipients = new ArrayList<>();
        for (String line : java.nio.file.Files.readAllLines(java.nio.file.Path.of(given[2]))) {
            recipients.add(new InternetAddress(line, false));
        }
        Message message = new MimeMessage(session, new FileInputStream(given[1]));
        String protocol = properties.getProperty("mail.transport.protocol");
        try (Transport transport = session.getTransport(protocol)) {
            transport.connect(properties.getProperty("user"), properties.getProperty("password"));
            transport.sendMessage(message, recipients.toArray(new InternetAddress[0]));
        } catch (jakarta.mail.MessagingException error) {
            for (Exception one = error; one != null; one = one instanceof jakarta.mail.MessagingException m ? m.getNextException() : null) {
                System.err.println(one);
            }
            System.exit(1);
        }
    }
}
