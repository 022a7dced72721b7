//! Short forms of amqprs's calls.

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::*;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, FieldTable, Nack, Return};
use async_trait::async_trait;
use client_patterns::{Done, SOON, name, parts};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Duration, sleep, timeout};

/// What the broker says without being asked.
#[derive(Debug, PartialEq)]
pub enum Event {
    Closed(u16, String),
    Cancelled(String),
    Ack(u64, bool),
    Nack(u64),
    Returned(u16, String, String, Vec<u8>),
}

struct Listener(UnboundedSender<Event>);

#[async_trait]
impl ChannelCallback for Listener {
    async fn close(
        &mut self,
        _: &Channel,
        close: CloseChannel,
    ) -> Result<(), amqprs::error::Error> {
        self.0
            .send(Event::Closed(
                close.reply_code(),
                close.reply_text().clone(),
            ))
            .ok();
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<(), amqprs::error::Error> {
        self.0
            .send(Event::Cancelled(cancel.consumer_tag().clone()))
            .ok();
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.0
            .send(Event::Ack(ack.delivery_tag(), ack.mutiple()))
            .ok();
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.0.send(Event::Nack(nack.delivery_tag())).ok();
    }

    async fn publish_return(
        &mut self,
        _: &Channel,
        ret: Return,
        _: BasicProperties,
        body: Vec<u8>,
    ) {
        let (text, key) = (ret.reply_text().clone(), ret.routing_key().clone());
        self.0
            .send(Event::Returned(ret.reply_code(), text, key, body))
            .ok();
    }
}

/// A channel on a connection of its own, and what the broker says on it.
pub struct Client {
    pub connection: Connection,
    pub ch: Channel,
    pub events: UnboundedReceiver<Event>,
}

pub struct Message {
    pub tag: u64,
    pub redelivered: bool,
    pub exchange: String,
    pub key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub struct Messages(UnboundedReceiver<ConsumerMessage>);

impl Messages {
    pub async fn take(&mut self) -> Done<Message> {
        let got = timeout(SOON, self.0.recv())
            .await?
            .ok_or("the consumer was cancelled")?;
        let deliver = got.deliver.ok_or("no deliver method")?;
        Ok(Message {
            tag: deliver.delivery_tag(),
            redelivered: deliver.redelivered(),
            exchange: deliver.exchange().clone(),
            key: deliver.routing_key().clone(),
            properties: got.basic_properties.ok_or("no properties")?,
            body: got.content.ok_or("no body")?,
        })
    }

    pub async fn nothing(&mut self) {
        let more = timeout(Duration::from_millis(300), self.0.recv()).await;
        assert!(more.is_err(), "a further delivery");
    }
}

pub async fn connect(heartbeat: u16) -> Done<Connection> {
    let (user, password, host, port, vhost) = parts();
    let mut options = OpenConnectionArguments::new(&host, port, &user, &password);
    options.virtual_host(&vhost).heartbeat(heartbeat);
    Ok(timeout(SOON, Connection::open(&options)).await??)
}

pub async fn open(connection: Connection) -> Done<Client> {
    let ch = connection.open_channel(None).await?;
    let (sender, events) = unbounded_channel();
    ch.register_callback(Listener(sender)).await?;
    Ok(Client {
        connection,
        ch,
        events,
    })
}

pub async fn client() -> Done<Client> {
    open(connect(60).await?).await
}

impl Client {
    pub async fn finish(self) -> Done {
        self.ch.close().await?;
        Ok(self.connection.close().await?)
    }

    pub async fn event(&mut self) -> Done<Event> {
        Ok(timeout(SOON, self.events.recv())
            .await?
            .ok_or("the channel ended")?)
    }

    /// Name and number of messages of the declared queue.
    pub async fn declare(&self, options: &QueueDeclareArguments) -> Done<(String, u32)> {
        let declared = timeout(SOON, self.ch.queue_declare(options.clone())).await??;
        let (queue, messages, _) = declared.ok_or("no answer to queue.declare")?;
        Ok((queue, messages))
    }

    pub async fn server_queue(&self) -> Done<String> {
        let (queue, _) = self
            .declare(&QueueDeclareArguments::exclusive_server_named())
            .await?;
        assert!(queue.starts_with("amq.gen"), "name {queue}");
        Ok(queue)
    }

    pub async fn exclusive_queue(&self, queue: &str) -> Done<String> {
        Ok(self
            .declare(QueueDeclareArguments::new(queue).exclusive(true))
            .await?
            .0)
    }

    pub async fn count(&self, queue: &str) -> Done<u32> {
        Ok(self
            .declare(QueueDeclareArguments::new(queue).passive(true))
            .await?
            .1)
    }

    pub async fn delete(&self, queue: &str) -> Done {
        self.ch
            .queue_delete(QueueDeleteArguments::new(queue))
            .await?;
        Ok(())
    }

    pub async fn exchange(&self, kind: &str) -> Done<String> {
        let options = ExchangeDeclareArguments::new(&name(kind), kind)
            .auto_delete(true)
            .finish();
        self.ch.exchange_declare(options).await?;
        Ok(name(kind))
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str, table: FieldTable) -> Done {
        let options = QueueBindArguments::new(queue, exchange, key)
            .arguments(table)
            .finish();
        Ok(self.ch.queue_bind(options).await?)
    }

    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: &BasicProperties,
    ) -> Done {
        let options = BasicPublishArguments::new(exchange, key);
        Ok(self
            .ch
            .basic_publish(properties.clone(), body.to_vec(), options)
            .await?)
    }

    pub async fn send(&self, exchange: &str, key: &str, body: &str) -> Done {
        self.publish(exchange, key, body.as_bytes(), &BasicProperties::default())
            .await
    }

    pub async fn consume(&self, queue: &str, no_ack: bool) -> Done<Messages> {
        let options = BasicConsumeArguments::new(queue, "")
            .manual_ack(!no_ack)
            .finish();
        Ok(Messages(self.ch.basic_consume_rx(options).await?.1))
    }

    pub async fn ack(&self, message: &Message) -> Done {
        Ok(self
            .ch
            .basic_ack(BasicAckArguments::new(message.tag, false))
            .await?)
    }

    pub async fn prefetch(&self, messages: u16) -> Done {
        Ok(self
            .ch
            .basic_qos(BasicQosArguments::new(0, messages, false))
            .await?)
    }

    /// The message and how many are left in the queue.
    pub async fn get(&self, queue: &str) -> Done<(Message, u32)> {
        for _ in 0..200 {
            let options = BasicGetArguments::new(queue).no_ack(true).finish();
            if let Some((ok, properties, body)) = self.ch.basic_get(options).await? {
                let message = Message {
                    tag: ok.delivery_tag(),
                    redelivered: ok.redelivered(),
                    exchange: ok.exchange().clone(),
                    key: ok.routing_key().clone(),
                    properties,
                    body,
                };
                return Ok((message, ok.message_count()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(format!("{queue} stays empty").into())
    }

    pub async fn not_found(&mut self, queue: &str) -> Done {
        assert!(self.count(queue).await.is_err(), "no 404");
        let Event::Closed(404, text) = self.event().await? else {
            return Err("the channel was not closed with 404".into());
        };
        assert!(
            text.contains("NOT_FOUND") && text.contains(queue),
            "text {text}"
        );
        Ok(())
    }
}
