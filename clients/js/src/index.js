export { Sheaf } from './client.js';
export { SheafError, TimeoutError } from './errors.js';
export { Job } from './job.js';
export { verifyWebhook } from './webhook.js';
